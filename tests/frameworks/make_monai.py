"""Train the tiny MONAI bundles of the tests with MONAI, and write what `monai.bundle run` makes of a phantom.

    python -m tests.frameworks.make_monai SCRATCH [NAME ...]

needs monai, pytorch-ignite and fire; each takes some minutes. The configurations have the form of the public
zoo's (spleen_ct_segmentation, swin_unetr_btcv_segmentation, wholeBody_ct_segmentation), with coarser voxels,
smaller windows and smaller networks.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from monai import transforms
from monai.data import MetaTensor
from monai.losses import DiceCELoss
from monai.networks import nets

from clara_wf.model_import.imported import ImportChoices
from clara_wf.model_import.kinds import foreign_model, write_model
from tests.frameworks.phantoms import ASKED, EVEN, EVEN_ASKED, TRAINED_ON, truth_of

HERE = Path(__file__).parent / "monai"
IMAGES = "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))"
DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"


def transform(name, **arguments):
    return {"_target_": name, "keys": "image" if name in FIRST else "pred", **arguments}


FIRST = {
    "LoadImaged",
    "EnsureChannelFirstd",
    "Orientationd",
    "Spacingd",
    "ScaleIntensityRanged",
    "NormalizeIntensityd",
    "EnsureTyped",
}
LOADED = [transform("LoadImaged"), transform("EnsureChannelFirstd"), transform("Orientationd", axcodes="RAS")]
INVERSE = {"transform": "@preprocessing", "orig_keys": "image", "to_tensor": True}
SAVE = transform("SaveImaged", output_dir="@output_dir", output_postfix="trans", separate_folder=False)

UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [8, 16, 24],
    "strides": [2, 2],
    "num_res_units": 2,
    "norm": "batch",
}
SWIN = {
    "_target_": "SwinUNETR",
    "spatial_dims": 3,
    "img_size": 64,
    "in_channels": 1,
    "out_channels": 4,
    "feature_size": 12,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "use_checkpoint": False,
}
SEGRESNET = {
    "_target_": "SegResNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 4,
    "init_filters": 8,
    "blocks_down": [1, 1, 1],
    "blocks_up": [1, 1],
    "dropout_prob": 0.2,
}

BUNDLES = {
    "spleen": {
        "network": UNET,
        "names": {"0": "background", "1": "liver"},
        "steps": [
            transform("Spacingd", pixdim=[4.0, 4.0, 5.0], mode="bilinear"),
            transform("ScaleIntensityRanged", a_min=-57, a_max=164, b_min=0, b_max=1, clip=True),
            transform("EnsureTyped"),
        ],
        "inferer": {"roi_size": [48, 48, 32], "sw_batch_size": 4, "overlap": 0.5},
        "after": [
            transform("Activationsd", softmax=True),
            transform("Invertd", nearest_interp=False, **INVERSE),
            transform("AsDiscreted", argmax=True),
        ],
        "suffix": ".json",
    },
    "swin": {
        "network": SWIN,
        "names": {"0": "background", "1": "spleen", "2": "Liver", "3": "rib_left_1"},
        "steps": [
            transform("Spacingd", pixdim=[5.0, 5.0, 5.0], mode="bilinear"),
            transform("ScaleIntensityRanged", a_min=-175, a_max=250, b_min=0.0, b_max=1.0, clip=True),
            transform("EnsureTyped"),
        ],
        "inferer": {"roi_size": [64, 64, 32], "sw_batch_size": 2, "overlap": 0.25},
        "trained_on": [64, 32, 32],
        "steps_of_training": 40,
        "after": [
            transform("Activationsd", softmax=True),
            transform("Invertd", nearest_interp=False, **INVERSE),
            transform("AsDiscreted", argmax=True),
        ],
        "suffix": ".json",
    },
    "whole": {
        "network": SEGRESNET,
        "names": {"0": "background", "1": "spleen", "2": "liver", "3": "rib_left_1"},
        "steps": [
            transform("Spacingd", pixdim="@pixdim", mode="bilinear"),
            transform("NormalizeIntensityd", nonzero=True),
        ],
        "inferer": {
            "roi_size": [48, 48, 40],
            "sw_batch_size": 1,
            "overlap": "@displayable_configs#sw_overlap",
            "padding_mode": "replicate",
            "mode": "gaussian",
        },
        "after": [
            transform("Activationsd", softmax=True),
            transform("AsDiscreted", argmax=True),
            transform("Invertd", nearest_interp=True, **INVERSE),
        ],
        "suffix": ".yaml",
    },
}


def configuration(bundle):
    """Return the configuration of the inference."""
    return {
        "displayable_configs": {"highres": False, "sw_overlap": 0.25},
        "pixdim": "$[1.5, 1.5, 1.5] if @displayable_configs#highres else [5.0, 4.0, 3.9]",
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "/data",
        "datalist": IMAGES,
        "device": DEVICE,
        "network_def": bundle["network"],
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [*LOADED, *bundle["steps"]]},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i} for i in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {"_target_": "SlidingWindowInferer", **bundle["inferer"]},
        "postprocessing": {"_target_": "Compose", "transforms": [*bundle["after"], SAVE]},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "amp": False,
        },
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        "initialize": ["$monai.utils.set_determinism(seed=123)", "$@checkpointloader(@evaluator)"],
        "run": ["$@evaluator.run()"],
    }


def metadata(name, bundle):
    channels = len(bundle["names"])
    return {
        "version": "0.1.0",
        "name": f"{name} of the tests",
        "copyright": "The clara-stages maintainers, Apache-2.0",
        "intended_use": "Tests alone; trained for a minute on phantoms",
        "network_data_format": {
            "inputs": {"image": {"type": "image", "modality": "CT", "num_channels": 1}},
            "outputs": {"pred": {"num_channels": channels, "channel_def": bundle["names"]}},
        },
    }


def network_of(bundle):
    arguments = {
        key: value for key, value in bundle["network"].items() if key not in ("_target_", "img_size")
    }
    return getattr(nets, bundle["network"]["_target_"])(**arguments)


def training_images(bundle):
    """Return images as the bundle sees them, and their labels on the same grid."""
    pixdim = (
        [5.0, 4.0, 3.9] if isinstance(bundle["steps"][0]["pixdim"], str) else bundle["steps"][0]["pixdim"]
    )
    steps = [*bundle["steps"][1:]]
    made = []
    for seed in TRAINED_ON:
        phantom = EVEN.make(seed)
        # from [slice, row, column] = S P L to x y z = R A S
        volumes = [each[:, ::-1, ::-1].transpose(2, 1, 0).copy() for each in (phantom.hu, truth_of(phantom))]
        affine = np.diag([*phantom.spacing_mm[::-1], 1.0])
        image, label = (
            transforms.Spacing(pixdim, mode=mode)(
                MetaTensor(torch.from_numpy(volume[None].astype(np.float32)), affine=affine)
            )
            for volume, mode in zip(volumes, ("bilinear", "nearest"), strict=True)
        )
        data = {"image": image}
        for step in steps:
            kind = getattr(transforms, step["_target_"])
            data = kind(**{key: value for key, value in step.items() if key != "_target_"})(data)
        made.append((data["image"].as_tensor(), label.as_tensor().long()))
    return made


def train(bundle):
    """Return the network after some steps on random windows."""
    torch.manual_seed(3)
    torch.set_num_threads(1)
    generator = np.random.default_rng(3)
    network, images = network_of(bundle).train(), training_images(bundle)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    size, steps = bundle.get("trained_on", [32, 32, 32]), bundle.get("steps_of_training", 160)
    classes = len(bundle["names"])
    for step in range(steps):
        image, label = images[step % len(images)]
        label = torch.where(label == 2, 1, 0) if classes == 2 else label
        starts = [
            int(generator.integers(0, max(1, n - s + 1))) for n, s in zip(image.shape[1:], size, strict=True)
        ]
        cut = (slice(None), *(slice(a, a + s) for a, s in zip(starts, size, strict=True)))
        optimiser.zero_grad()
        window = transforms.SpatialPad(size)(image[cut])
        loss = loss_of(network(window[None]), transforms.SpatialPad(size)(label[cut])[None])
        loss.backward()
        optimiser.step()
    print(f"loss {float(loss):.3f}")
    return network.eval()


def write(name, bundle, network):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs/metadata.json").write_text(json.dumps(metadata(name, bundle), indent=1))
    told = configuration(bundle)
    path = folder / f"configs/inference{bundle['suffix']}"
    if bundle["suffix"] == ".json":
        path.write_text(json.dumps(told, indent=1))
    else:
        import yaml

        path.write_text(yaml.safe_dump(told, sort_keys=False))
    torch.save(network.state_dict(), folder / "models/model.pt")
    return folder


def run(name, folder, scratch):
    """Ask MONAI's own command, and keep its mask as [slice, row, column]."""
    asked, answer = scratch / "asked", scratch / "eval" / name
    asked.mkdir(parents=True, exist_ok=True)
    phantom = EVEN_ASKED.make(ASKED)
    image = sitk.GetImageFromArray(phantom.hu)
    image.SetSpacing([float(each) for each in phantom.spacing_mm[::-1]])
    sitk.WriteImage(image, asked / "asked.nii.gz")
    shutil.rmtree(answer, ignore_errors=True)
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--config_file", str(_of_today(folder, scratch)), "--bundle_root", str(folder)]
    command += ["--dataset_dir", str(asked), "--output_dir", str(answer)]
    clock = time.monotonic()
    subprocess.run(command, check=True, cwd=scratch)
    print(f"{name}: predicted in {time.monotonic() - clock:.0f} s")
    mask = sitk.GetArrayFromImage(sitk.ReadImage(next(answer.rglob("*.nii.gz")))).astype(np.uint8)
    np.savez_compressed(folder / "reference.npz", mask=mask)
    print(f"{name}: voxels by label {np.bincount(mask.ravel()).tolist()}")
    print(f"{name}: truth {np.bincount(truth_of(phantom).ravel()).tolist()}")


def _of_today(folder, scratch):
    """Return a bundle's configuration without ``img_size``, which this MONAI refuses where older ones need it."""
    path = next(folder.glob("configs/inference.*"))
    if path.suffix != ".json":
        return path
    told = json.loads(path.read_text())
    told["network_def"].pop("img_size", None)
    (scratch / path.name).write_text(json.dumps(told))
    return scratch / path.name


def main(scratch, names):
    scratch.mkdir(parents=True, exist_ok=True)
    for name in names or BUNDLES:
        bundle = BUNDLES[name]
        network = train(bundle)
        folder = write(name, bundle, network)
        run(name, folder, scratch)
        write_model(foreign_model(folder, ImportChoices()), scratch / "exported" / name)
        shutil.copy(scratch / "exported" / name / "1/model.onnx", folder / "exported.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
