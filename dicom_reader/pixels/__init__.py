"""From headers to pixels.

Read in place or decoded, then turned into Hounsfield units, as one int16 array.
"""
