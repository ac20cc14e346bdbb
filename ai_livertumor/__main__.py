"""The container's entry point: liver and tumour in each CT volume, by a model on a Triton server."""

import os
import sys

from stages import main
from stages.segmentation.stage import SegmentationStage

MODEL = "segmentation_liver_v1"

if __name__ == "__main__":
    sys.exit(main(SegmentationStage(MODEL), sys.argv[1:], os.environ, name="ai-livertumor"))
