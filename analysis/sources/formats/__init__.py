"""Files of any format -> rows of names and values. Nothing beyond here knows a tool."""
