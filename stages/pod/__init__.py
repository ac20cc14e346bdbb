"""What runs beside the stages of a Pod, and the messages that it exchanges with the engine."""
