"""The clara-wf command: define, try and publish workflows of GPU inference stages."""
