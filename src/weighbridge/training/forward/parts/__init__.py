"""Parts that the forwards of families are put together from.

rotary, attention           positions; heads, masks and the kernel that runs
layer                       a layer and a decoder as callable records
moe, one_by_one             experts: routing, all at once; one after the other
encoder                     what encoders share, and their heads
"""
