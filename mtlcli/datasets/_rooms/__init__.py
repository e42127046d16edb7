"""The renderer behind `rooms`.

What there is: dice, solids, style, furniture, fittings, figure, floorplan, layout. How it is seen:
trace, patterns, texture, light, labels.
"""
