"""Items of code sequences.

References
----------
DICOM PS3.3 8.8, Standard Attribute Sets for Code Sequences; C.7.6.16.1.3, Algorithm Identification Macro.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_writer.request.provenance import Provenance
from stages.volume.labels import Code


def algorithm_identification(provenance: Provenance) -> Dataset:
    """Return an item of the Algorithm Identification Macro.

    Parameters
    ----------
    provenance
        Which algorithm.
    """
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [code_item(Code("123110", "DCM", "Artificial Intelligence"))]
    item.AlgorithmName = provenance.algorithm_name
    item.AlgorithmVersion = provenance.version
    if provenance.parameters:
        item.AlgorithmParameters = provenance.parameters
    return item


def code_item(code: Code) -> Dataset:
    """Return a coded concept as an item of a code sequence.

    Parameters
    ----------
    code
        Value, scheme and meaning.
    """
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item
