"""A page in the browser: what the camera sees, what the model makes of it, and how it is doing.

``access`` says who may ask, ``view`` what there is to tell, ``viewer`` holds what waits for one
browser, ``camera`` looks at a browser's own camera, ``server`` serves, and ``sink`` takes
what the show gives.
"""
