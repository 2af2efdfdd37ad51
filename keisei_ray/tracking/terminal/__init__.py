"""The terminal view: from the view state to lines on a screen."""
