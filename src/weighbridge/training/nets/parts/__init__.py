"""What programs of families are put together from.

masks, rotary, attention    what a layer's attention sees, turns and is
feeds, moe, routers         feed-forwards, dense and of experts
layer, decoder              a layer and a decoder as records that are called
hybrid, polar               layers that mix tokens in several ways; complex positions
encoder, embedder, towers   encoders, their embeddings, and what joins a decoder's words
rough                       classes that nobody has written
"""
