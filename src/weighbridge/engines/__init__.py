"""How an engine differs: its versions, its defaults, the order in which it places things."""
