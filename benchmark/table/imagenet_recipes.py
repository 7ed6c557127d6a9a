"""The recipes of the transformers' table, as data: what differs from the recipe each starts from.

``from`` names it; the first of each chain starts from ``imagenet_100``. Facts and sources are in
docs/reproducing.md. What the published runs did over several GPUs is ``replicas``, which is 1
here: a row whose loss compares the images of one GPU sets it.
"""

from __future__ import annotations

from typing import Any

_TIMM_PIXELS: dict[str, Any] = {
    "augmentation": "imagenet_timm",
    "mix": {"mixup": 0.8, "cutmix": 1.0},
    "label_smoothing": 0.1,
    "drop_last": True,
}
_ADAMW: dict[str, Any] = {
    "epochs": 300,
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "decay_on": "matrices",
    "channels_last": False,
}

IMAGENET_RECIPES: dict[str, dict[str, Any]] = {
    # DeiT's own, with timm 0.3.2: every rate an epoch late, the boxes of CutMix even, the
    # distillation token decayed. Its average of weights was saved and never evaluated. Published
    # in fp16 with a loss scale, which bfloat16 does not need.
    "deit_300": {
        **_ADAMW,
        **_TIMM_PIXELS,
        "batch_size": 1024,
        "lr": 1e-3,
        "schedule": {
            "kind": "cosine",
            "warmup_epochs": 5,
            "warmup_lr": 1e-6,
            "min_lr": 1e-5,
            "warmup": "within",
            "late": 1,
        },
        "mix": {"mixup": 0.8, "cutmix": 1.0, "even_boxes": True},
        "also_decay": ("dist_token",),
        "repeats": 3,
        "drop_path": 0.1,
        "precision": "bf16",
    },
    # Co-advising's: cosine by iteration, one iteration late. Its configuration's drop path never
    # reached the network.
    "civt_300": {
        **_ADAMW,
        **_TIMM_PIXELS,
        "batch_size": 1024,
        "lr": 1e-3,
        "schedule": {
            "kind": "cosine",
            "warmup_epochs": 20,
            "warmup_lr": 1e-6,
            "min_lr": 1e-5,
            "per": "iteration",
            "warmup": "within",
            "late": 1,
        },
        "clip_norm": 15.0,
    },
    # The projector paper's: co-advising's at batch 256, in mixed precision, tested bilinearly.
    "projector_deit_300": {
        "from": "civt_300",
        "batch_size": 256,
        "lr": 2.5e-4,
        "schedule": {"warmup_lr": 2.5e-7, "min_lr": 2.5e-6},
        "test_interpolation": "bilinear",
        "precision": "bf16",
    },
    # mmpretrain's DeiT, from which USKD starts.
    "uskd_300": {
        **_ADAMW,
        **_TIMM_PIXELS,
        "batch_size": 1024,
        "lr": 1e-3,
        "schedule": {
            "kind": "cosine",
            "warmup_epochs": 20,
            "warmup_lr": 1e-6,
            "min_lr": 1e-5,
            "warmup_per": "iteration",
            "warmup_closed": True,
        },
        "mix": {"mixup": 0.8, "cutmix": 1.0, "partner": "random"},
        "clip_norm": 5.0,
    },
    # FunMatch's. Its decay of 3e-4 is not multiplied by the rate of 0.03; 2 % of the training
    # images are held out.
    "funmatch_300": {
        **_ADAMW,
        "batch_size": 4096,
        "lr": 0.03,
        "weight_decay": 0.01,
        "schedule": {"kind": "cosine", "warmup_steps": 5000, "per": "iteration"},
        "augmentation": "imagenet_funmatch",
        "mix": {"mixup": 1.0, "larger": True, "partner": "previous"},
        "clip_norm": 1.0,
        "holdout": 25_623,
        "drop_last": True,
    },
}
