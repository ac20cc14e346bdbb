"""Train the tiny nnU-Net models of the tests with nnU-Net itself, and write what it predicts.

    python -m tests.frameworks.make_nnunet SCRATCH [NAME ...]

needs nnunetv2; each takes a minute or two on two cores. A trained-model folder without what only training
reads, and the mask of `nnUNetv2_predict_from_modelfolder`, come to tests/frameworks/nnunet/NAME.
"""

import json
import os
import shutil
import sys
import time
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tests.frameworks.phantoms import (
    ASKED,
    EVEN,
    EVEN_ASKED,
    THICK,
    THICK_ASKED,
    TRAINED_ON,
    PhantomGrid,
    truth_of,
)

HERE = Path(__file__).parent / "nnunet"
LABELS = {"background": 0, "organs": 1, "liver": 2, "bone": 3}
REGIONS = {"background": 0, "organs": [1, 2], "liver": 2, "bone": 3}


@dataclass(frozen=True)
class TinyModel:
    """What one of the models is."""

    number: int
    grid: PhantomGrid
    asked: PhantomGrid
    configuration: str
    patch: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    channel: str = "CT"
    labels: dict = field(default_factory=lambda: LABELS)
    folds: tuple = ("all",)
    residual: bool = False
    iterations: int = 220
    is_mirrored: bool = False


MODELS = {
    "even": TinyModel(801, EVEN, EVEN_ASKED, "3d_fullres", (32, 48, 48), (4.0, 4.0, 4.0), is_mirrored=True),
    "thick": TinyModel(802, THICK, THICK_ASKED, "3d_fullres", (14, 64, 64), (7.0, 2.6, 2.6)),
    "flat": TinyModel(802, THICK, THICK_ASKED, "2d", (96, 96), (2.6, 2.6), is_mirrored=True),
    "regions": TinyModel(803, EVEN, EVEN_ASKED, "3d_fullres", (32, 48, 48), (4.0, 4.0, 4.0), labels=REGIONS),
    "folds": TinyModel(
        801,
        EVEN,
        EVEN_ASKED,
        "3d_lowres",
        (24, 40, 40),
        (5.0, 5.0, 5.0),
        folds=(0, 1, 2, 3, 4),
        iterations=100,
    ),
    "zscore": TinyModel(
        804, EVEN, EVEN_ASKED, "3d_fullres", (32, 48, 48), (4.0, 4.0, 4.0), channel="zscore", residual=True
    ),
}


def environment(scratch):
    """Say where nnU-Net's folders are, before it is imported."""
    for name in ("raw", "preprocessed", "results"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(scratch / name)
    os.environ |= {"nnUNet_compile": "f", "OMP_NUM_THREADS": "1"}
    try:
        import timm  # noqa: F401
    except (ImportError, RuntimeError):  # a torchvision of another make: nnU-Net needs none of it here
        stand_in_for_timm()


def stand_in_for_timm():
    """Let nnU-Net look for its trainers where timm cannot be imported."""

    class Anything(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    for name in ("timm", "timm.layers", "timm.models", "timm.models.eva", "timm.models.layers"):
        sys.modules[name] = Anything(name)


def image_of(array, spacing_mm):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(each) for each in spacing_mm[::-1]])
    return image


def write_raw(model, folder):
    """Write the phantoms as nnU-Net wants them."""
    for each in ("imagesTr", "labelsTr"):
        (folder / each).mkdir(parents=True)
    for seed in TRAINED_ON:
        phantom = model.grid.make(seed)
        hu = image_of(phantom.hu, phantom.spacing_mm)
        sitk.WriteImage(hu, folder / f"imagesTr/p{seed}_0000.nii.gz")
        sitk.WriteImage(image_of(truth_of(phantom), phantom.spacing_mm), folder / f"labelsTr/p{seed}.nii.gz")
    told = {
        "channel_names": {"0": model.channel},
        "labels": model.labels,
        "numTraining": len(TRAINED_ON),
        "file_ending": ".nii.gz",
        "licence": "Apache-2.0",
    }
    if any(isinstance(each, list) for each in model.labels.values()):
        told["regions_class_order"] = [1, 2, 3]
    (folder / "dataset.json").write_text(json.dumps(told))


def architecture(model):
    """Return the network's part of a configuration: four small stages."""
    dims = len(model.patch)
    kernels = [[3] * dims] * 4
    strides = [[1] * dims] + [[2] * dims] * 3
    if model.grid is THICK and dims == 3:
        kernels = [[1, 3, 3], [3] * 3, [3] * 3, [3] * 3]
        strides = [[1] * 3, [1, 2, 2], [2] * 3, [1, 2, 2]]
    kind = "ResidualEncoderUNet" if model.residual else "PlainConvUNet"
    blocks = {"n_blocks_per_stage" if model.residual else "n_conv_per_stage": [1, 2, 2, 2]}
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": {
            "n_stages": 4,
            "features_per_stage": [6, 12, 24, 32],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": kernels,
            "strides": strides,
            **blocks,
            "n_conv_per_stage_decoder": [1, 1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plan(model, name):
    """Let nnU-Net plan, and put a tiny network into the plan's configuration."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
    )

    os.environ["nnUNet_n_proc_DA"] = "1"  # as many threads does the planner estimate with
    extract_fingerprints([model.number], num_processes=1, check_dataset_integrity=False, clean=True)
    plan_experiments([model.number])
    path = next(Path(os.environ["nnUNet_preprocessed"]).glob(f"Dataset{model.number}_*/nnUNetPlans.json"))
    plans = json.loads(path.read_text())
    base = plans["configurations"].get("2d" if len(model.patch) == 2 else "3d_fullres")
    told = {
        **base,
        "data_identifier": f"nnUNetPlans_{name}",
        "patch_size": list(model.patch),
        "spacing": list(model.spacing_mm),
        "batch_size": 2 if len(model.patch) == 3 else 8,
        "architecture": architecture(model),
    }
    plans["configurations"][model.configuration] = told
    path.write_text(json.dumps(plans))
    return path


def train(model, name, scratch):
    """Train each fold for an epoch, and return the trained-model folder."""
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    raw = scratch / f"raw/Dataset{model.number}_Phantom"
    if not raw.exists():
        write_raw(model, raw)
    plan(model, name)
    os.environ["nnUNet_n_proc_DA"] = "0"  # augment in this process
    preprocess([model.number], configurations=[model.configuration], num_processes=[1])
    for fold in model.folds:
        torch.manual_seed(5)
        np.random.seed(5)
        trainer = get_trainer_from_args(
            str(model.number), model.configuration, fold, device=torch.device("cpu")
        )
        shorten(trainer, model.iterations)
        trainer.run_training()
    return trainer.output_folder_base


def trained_before(model, scratch):
    """Return the trained-model folder that an earlier run has left; None where there is none."""
    whole = f"results/Dataset{model.number}_Phantom/nnUNetTrainer__nnUNetPlans__{model.configuration}"
    last = scratch / whole / f"fold_{model.folds[-1]}/checkpoint_final.pth"
    return last.parents[1] if last.is_file() else None


def shorten(trainer, iterations):
    """Let a trainer learn what it can in a minute: one epoch, of patches as they are cut out."""
    from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA

    configure = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size

    def without_margin():
        rotation, flat, _, axes = configure()
        return rotation, flat, trainer.configuration_manager.patch_size, axes

    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size = without_margin
    trainer.get_training_transforms = nnUNetTrainerNoDA.get_training_transforms
    trainer.oversample_foreground_percent = 1.0
    trainer.num_epochs, trainer.num_iterations_per_epoch = 1, iterations
    trainer.num_val_iterations_per_epoch = 1


def keep(trained, folder, model):
    """Copy what prediction reads of a trained-model folder; the optimizer's state is left out."""
    import torch

    shutil.rmtree(folder, ignore_errors=True)
    for fold in model.folds:
        name = f"fold_{fold}"
        (folder / name).mkdir(parents=True)
        checkpoint = torch.load(
            Path(trained, name, "checkpoint_final.pth"), map_location="cpu", weights_only=False
        )
        checkpoint |= {"optimizer_state": None, "logging": None}
        if (
            not model.is_mirrored
        ):  # as trainers without mirroring leave it; the tests take an eighth of the time
            checkpoint["inference_allowed_mirroring_axes"] = None
        torch.save(checkpoint, folder / name / "checkpoint_final.pth")
    for name in ("plans.json", "dataset.json"):
        told = json.loads(Path(trained, name).read_text())
        if name == "plans.json":
            only = {key: value for key, value in told["configurations"].items() if key in folder.name}
            told["configurations"] = only
        (folder / name).write_text(json.dumps(told, indent=1))


def predict(model, folder, scratch):
    """Ask nnU-Net's own command about a phantom, and keep its mask."""
    from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder

    ask, answer = scratch / "ask" / folder.parent.name, scratch / "answer" / folder.parent.name
    for each in (ask, answer):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir(parents=True)
    phantom = model.asked.make(ASKED)
    sitk.WriteImage(image_of(phantom.hu, phantom.spacing_mm), ask / "asked_0000.nii.gz")
    sys.argv = ["predict", "-i", str(ask), "-o", str(answer), "-m", str(folder), "-f"]
    sys.argv += [*map(str, model.folds), "-npp", "1", "-nps", "1", "-device", "cpu"]
    clock = time.monotonic()
    predict_entry_point_modelfolder()
    print(f"{folder.parent.name}: predicted in {time.monotonic() - clock:.0f} s")
    mask = sitk.GetArrayFromImage(sitk.ReadImage(answer / "asked.nii.gz")).astype(np.uint8)
    np.savez_compressed(folder.parent / "reference.npz", mask=mask)
    print(f"{folder.parent.name}: voxels by label {np.bincount(mask.ravel()).tolist()}")
    print(f"{folder.parent.name}: truth {np.bincount(truth_of(phantom).ravel()).tolist()}")


def main(scratch, names):
    environment(scratch)
    for name in names or MODELS:
        model = MODELS[name]
        clock = time.monotonic()
        trained = trained_before(model, scratch) or train(model, name, scratch)
        print(f"{name}: trained in {time.monotonic() - clock:.0f} s")
        folder = HERE / name / Path(trained).name
        keep(trained, folder, model)
        predict(model, folder, scratch)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
