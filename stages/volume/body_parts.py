"""Where the parts of the body lie that *Body Part Examined* (0018,0015) names, and which are far apart.

The attribute is often absent, misspelt or that of the protocol, so only terms of the standard count, and a
neighbouring part counts as the same: a chest CT shows much of the liver.

References
----------
DICOM PS3.16 Annex L, Correspondence of Anatomic Region Codes and Body Part Examined Defined Terms.
"""

from __future__ import annotations

_HEAD, _NECK, _CHEST, _ABDOMEN, _PELVIS, _LEGS = range(6)
_ARMS = 9  # no neighbour of any

_TERMS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("HEAD BRAIN SKULL FACE ORBIT EAR EYE IAC INTRACRANIAL JAW MANDIBLE MASTOID MAXILLA NOSE", (_HEAD,)),
    ("SELLA TMJ CEREBELLUM CIRCLEOFWILLIS ZYGOMA", (_HEAD,)),
    ("HEADNECK NASOPHARYNX PHARYNX TONGUE CAROTID", (_HEAD, _NECK)),
    ("NECK CSPINE LARYNX THYROID PARATHYROID", (_NECK,)),
    ("NECKCHEST CTSPINE TRACHEA ESOPHAGUS SUPRACLAVICULAR", (_NECK, _CHEST)),
    ("NECKCHESTABDOMEN", (_NECK, _CHEST, _ABDOMEN)),
    ("NECKCHESTABDPELV", (_NECK, _CHEST, _ABDOMEN, _PELVIS)),
    ("CHEST THORAX TSPINE LUNG HEART CORONARYARTERY BREAST BRONCHUS CLAVICLE MEDIASTINUM RIB", (_CHEST,)),
    ("SCAPULA STERNUM THORACICAORTA THYMUS UPPERTRUNK SHOULDER AXILLA", (_CHEST,)),
    ("CHESTABDOMEN TLSPINE AORTA", (_CHEST, _ABDOMEN)),
    ("CHESTABDPELVIS TRUNK", (_CHEST, _ABDOMEN, _PELVIS)),
    ("ABDOMEN LIVER SPLEEN PANCREAS KIDNEY ADRENAL GALLBLADDER BILEDUCT BILIARYTRACT", (_ABDOMEN,)),
    ("STOMACH DUODENUM EPIGASTRIC LSPINE LUMBAR ABDOMINALAORTA RETROPERITONEUM", (_ABDOMEN,)),
    ("ABDOMENPELVIS LOWERTRUNK LSSPINE COLON LARGEINTESTINE SMALLINTESTINE URETER", (_ABDOMEN, _PELVIS)),
    ("PELVIS HIP SSPINE SIJOINT COCCYX PROSTATE BLADDER RECTUM UTERUS OVARY", (_PELVIS,)),
    ("PELVISLOWEXTREMT", (_PELVIS, _LEGS)),
    ("LOWERLIMB LOWERLEG THIGH FEMUR KNEE PATELLA CALF TIBIA FIBULA TIBIAFIBULA ANKLE", (_LEGS,)),
    ("FOOT CALCANEUS TOE", (_LEGS,)),
    ("UPPERLIMB UPPERARM HUMERUS ELBOW FOREARM RADIUS ULNA RADIUSULNA WRIST HAND FINGER THUMB", (_ARMS,)),
    ("WHOLEBODY", (_HEAD, _NECK, _CHEST, _ABDOMEN, _PELVIS, _LEGS, _ARMS)),
)
_REGIONS = {term: regions for terms, regions in _TERMS for term in terms.split()}


def is_known(term: str) -> bool:
    """Return whether it is known where a part of the body lies, such as ``ABDOMEN``.

    Parameters
    ----------
    term
        As *Body Part Examined* (0018,0015) has it, upper case.
    """
    return term in _REGIONS


def lies_elsewhere(examined: str, expected: str) -> bool:
    """Return whether one term surely names another part of the body than the other, not even a neighbour.

    Parameters
    ----------
    examined, expected
        Two terms of *Body Part Examined* (0018,0015); an unknown one lies nowhere else.
    """
    of_series, of_model = _REGIONS.get(examined, ()), _REGIONS.get(expected, ())
    return min((abs(a - b) for a in of_series for b in of_model), default=0) > 1
