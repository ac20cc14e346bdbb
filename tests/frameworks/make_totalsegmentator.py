"""Make folders of the shape of TotalSegmentator's weights, and what its steps and nnU-Net make of a phantom
with them.

    python -m tests.frameworks.make_totalsegmentator SCRATCH

needs nnunetv2. The weights are random, since the real ones are large; the steps around nnU-Net are
TotalSegmentator's (``nnunet.py``, ``resampling.py``), written down from their description: canonical RAS,
zoom of order 3, integers, nnU-Net with its step, parts written one over the other, zoom of order 0.
"""

import json
import pydoc
import shutil
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from clara_wf.model_import.totalsegmentator.tasks import PARTS, TASKS
from tests.frameworks.make_nnunet import MODELS, architecture, environment
from tests.frameworks.phantoms import ASKED, PhantomGrid

HERE = Path(__file__).parent / "totalsegmentator"
SMALL = PhantomGrid((14, 25, 26), (4.0, 5.0, 5.2))
"""What all parts together are asked about."""

WHOLE = PhantomGrid((60, 130, 130), (3.4, 3.0, 3.0))
NAMES = {
    291: "Dataset291_TotalSegmentator_part1_organs_1559subj",
    292: "Dataset292_TotalSegmentator_part2_vertebrae_1532subj",
    293: "Dataset293_TotalSegmentator_part3_cardiac_1559subj",
    294: "Dataset294_TotalSegmentator_part4_muscles_1559subj",
    295: "Dataset295_TotalSegmentator_part5_ribs_1559subj",
    298: "Dataset298_TotalSegmentator_total_6mm_1559subj",
}
TRAINER = "nnUNetTrainerNoMirroring"
PATCH = [32, 32, 32]


def network_of(number, plan):
    """Return a network with random weights whose background wins in most places."""
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(number)
    told = dict(plan["arch_kwargs"])
    for key in plan["_kw_requires_import"]:
        told[key] = pydoc.locate(told[key]) if told[key] else told[key]
    classes = len(TASKS[number].classes) + 1
    network = PlainConvUNet(input_channels=1, num_classes=classes, deep_supervision=True, **told)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            torch.nn.init.normal_(weight, 1.0 if name.endswith("norm.weight") else 0.0, 0.4)
        network.decoder.seg_layers[-1].bias[0] += 2.6 if number in PARTS else 1.0
    return network


def write(number):
    """Write a folder as TotalSegmentator's download has it."""
    import torch

    folder = HERE / NAMES[number] / f"{TRAINER}__nnUNetPlans__3d_fullres"
    shutil.rmtree(folder.parent, ignore_errors=True)
    (folder / "fold_0").mkdir(parents=True)
    tiny = MODELS["folds"]
    plan = architecture(tiny)
    task = TASKS[number]
    statistics = {
        "mean": 40.0 + number % 7,
        "std": 150.0,
        "percentile_00_5": -900.0,
        "percentile_99_5": 600.0,
    }
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    plans = {
        "dataset_name": NAMES[number],
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [task.spacing_mm] * 3,
        "original_median_shape_after_transp": [100, 100, 100],
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            "3d_fullres": {
                "data_identifier": "nnUNetPlans_3d_fullres",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": PATCH,
                "spacing": [task.spacing_mm] * 3,
                "normalization_schemes": ["CTNormalization"],
                "use_mask_for_norm": [False],
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": resampling,
                "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
                "architecture": plan,
                "batch_dice": True,
            }
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": {**statistics, "median": 50.0, "min": -1000.0, "max": 1500.0}
        },
    }
    labels = {"background": 0} | {name: at for at, name in enumerate(task.classes, 1)}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1559, "file_ending": ".nii.gz"}
    (folder / "plans.json").write_text(json.dumps(plans, indent=1))
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1))
    torch.save(
        {
            "network_weights": network_of(number, plan).state_dict(),
            "trainer_name": TRAINER,
            "init_args": {"configuration": "3d_fullres"},
            "inference_allowed_mirroring_axes": None,
        },
        folder / "fold_0/checkpoint_final.pth",
    )
    return folder


def predicted(folder, image, spacing_mm, step):
    """Return nnU-Net's labels of an image [z, y, x]."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    torch.set_num_threads(1)
    predictor = nnUNetPredictor(
        tile_step_size=step,
        use_mirroring=False,
        device=torch.device("cpu"),
        perform_everything_on_device=False,
    )
    predictor.initialize_from_trained_model_folder(str(folder), use_folds=(0,))
    properties = {"spacing": [spacing_mm] * 3}
    return predictor.predict_single_npy_array(image[None].astype(np.float32), properties, None, None, False)


def total(numbers, folders, phantom):
    """Return TotalSegmentator's labels of a phantom, [slice, row, column] as the phantom has them."""
    task = TASKS[numbers[0]]
    canonical = phantom.hu[:, ::-1, ::-1].transpose(2, 1, 0)  # x to the right, y to the front, z up
    spacing = np.array(phantom.spacing_mm[::-1])
    small = ndimage.zoom(canonical.astype(np.float64), spacing / task.spacing_mm, order=3).astype(np.int32)
    combined = np.zeros(small.shape, np.uint8)
    claims = np.zeros(small.shape, np.uint8)
    for number in numbers:
        found = predicted(folders[number], small.transpose(2, 1, 0), task.spacing_mm, task.step).transpose(
            2, 1, 0
        )
        combined[found > 0] = found[found > 0] + TASKS[number].first - 1
        claims += found > 0
    back = np.array(canonical.shape) / np.array(small.shape)
    combined, claims = (
        ndimage.zoom(each, back, order=0).transpose(2, 1, 0)[:, ::-1, ::-1] for each in (combined, claims)
    )
    return combined, claims


def main(scratch):
    environment(scratch)
    folders = {number: write(number) for number in NAMES}
    for name, numbers, grid in (("parts", PARTS, SMALL), ("total_6mm", [298], WHOLE)):
        mask, claims = total(numbers, folders, grid.make(ASKED))
        np.savez_compressed(HERE / f"{name}.npz", mask=mask, claims=claims)
        print(
            f"{name}: {len(np.unique(mask)) - 1} classes, claimed by several: "
            f"{float((claims > 1).mean()):.4f}, "
            f"by one: {float((claims == 1).mean()):.4f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
