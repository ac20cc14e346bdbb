"""user-ai, a stage to learn from: another organ, another model; the toolkit does the rest."""

import argparse
import json
import logging
import os
import sys

from stages import Job, Volume, main
from stages.segmentation.stage import SegmentationStage

logger = logging.getLogger("user_ai")


class UserAi(SegmentationStage):
    """Mark the fat in each CT volume of the input folder, by the model body_fat on a Triton server."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what the workflow's args may say, beside what every stage with a model takes."""
        super().add_arguments(parser)
        parser.add_argument("-p", default="", metavar="TEXT", help="a remark that is kept with the result")

    def finish(self, job: Job, mask: Volume) -> None:
        """Write beside each mask what was found in it, as .user-ai.json."""
        found_ml = float((mask.array == 1).sum() * mask.voxel_volume_mm3 / 1000)
        record = {"remark": job.arguments.p, "model": job.arguments.model, "fat_ml": round(found_ml, 1)}
        name = f"{mask.origin.file_name}.user-ai.json"
        (job.output_dir / name).write_text(json.dumps(record), encoding="utf-8")
        logger.info("found %.1f ml of fat, remark %r", found_ml, job.arguments.p)


if __name__ == "__main__":
    sys.exit(main(UserAi("body_fat"), sys.argv[1:], os.environ, name="user-ai"))
