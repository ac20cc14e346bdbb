"""The label values of the organs that a phantom draws."""

from enum import IntEnum


class Anatomy(IntEnum):
    """What a voxel of `AbdomenPhantom.anatomy` shows."""

    AIR = 0
    LIVER = 1
    TUMOUR = 2
    FAT = 3
    MUSCLE = 4
    SKIN = 5
    SPLEEN = 6
    KIDNEY_LEFT = 7
    KIDNEY_RIGHT = 8
    STOMACH = 9
    GALL_BLADDER = 10
    BOWEL = 11
    AORTA = 12
    INFERIOR_VENA_CAVA = 13
    LIVER_VESSEL = 14
    SPINE = 15
    RIB = 16
    LUNG = 17
    HEART = 18
    PANCREAS = 19
    TABLE = 20
    PELVIS = 21
    PORTAL_VEIN = 22
    ARM = 23


IN_LIVER = (Anatomy.LIVER, Anatomy.LIVER_VESSEL)
