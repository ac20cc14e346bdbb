"""How a stage lives: settings in, locks and logs out; and one module for each mechanism of the system."""
