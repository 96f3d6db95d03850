"""The whole way live: a camera to an event, to a page, for long, and eight cameras at once."""
