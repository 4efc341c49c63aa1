"""Parts that the forwards of families are put together from.

rotary, attention           positions; heads, masks and the kernel that runs
layer                       a layer and a decoder as records that are called
moe, routers, one_by_one    experts: at once, whom tokens go to, one after the other
encoder                     what encoders share, and their heads
"""
