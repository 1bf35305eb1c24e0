"""What a file says about its pictures, in kohya's words: formats.md §5."""

import json
from statistics import fmean
from typing import Any

from loraloom.train.buckets import aspect_error
from loraloom.train.config import ResolvedConfig
from loraloom.train.dataset import Dataset
from loraloom.train.folders import Folder
from loraloom.train.order import Order


def pictures_told(config: ResolvedConfig, dataset: Dataset, step: int) -> dict[str, str]:
    """Every value as text. Regularisation pictures count as often as an epoch takes them."""
    order = dataset.order(config.seed)
    own = sum(picture.folder.repeats for picture in dataset.own)
    regular = order.epoch_length - own
    epochs, epoch = (-(-steps * config.per_step // order.epoch_length) for steps in (config.steps, step))
    folders = dict.fromkeys(picture.folder for picture in dataset.pictures)
    held = {folder: sum(picture.folder == folder for picture in dataset.pictures) for folder in folders}
    side = config.resolution
    told = {
        "is_dreambooth": True,
        "batch_size_per_device": config.batch,
        "num_train_images": own,
        "num_reg_images": regular,
        "resolution": [side, side],
        "enable_bucket": config.buckets,
        **(_buckets_told(config) if config.buckets else {}),
        "subsets": [_subset(config, folder, held[folder]) for folder in folders],
        "tag_frequency": dataset.tag_frequency(),
    }
    mine = {folder: count for folder, count in held.items() if not folder.regular}
    theirs = {folder: count for folder, count in held.items() if folder.regular}
    found = {
        "ss_num_train_images": str(own),
        "ss_num_reg_images": str(regular),
        "ss_num_batches_per_epoch": str(-(-order.epoch_length // config.batch)),
        "ss_num_epochs": str(epochs),
        "ss_epoch": str(epoch),
        "ss_batch_size_per_device": str(config.batch),
        "ss_total_batch_size": str(config.per_step),
        "ss_resolution": f"({side}, {side})",
        "ss_enable_bucket": str(config.buckets),
        "ss_bucket_info": json.dumps(_bucket_info(dataset, order)),
        "ss_tag_frequency": json.dumps(dataset.tag_frequency(), ensure_ascii=False),
        "ss_datasets": json.dumps([told], ensure_ascii=False),
        "ss_dataset_dirs": _dirs(mine),
        "ss_reg_dataset_dirs": _dirs(theirs),
        "ss_shuffle_caption": str(config.caption_shuffle),
        "ss_keep_tokens": str(_kept(config)),
        "ss_flip_aug": str(config.flip),
        "ss_random_crop": str(config.crop == "random"),
    }
    if config.buckets:
        found |= {f"ss_{name}": str(value) for name, value in _buckets_told(config).items()}
    if config.regularization:
        found |= {"ss_prior_loss_weight": str(config.regularization_weight)}
    return found | ({"ss_masked_loss": "True"} if any(picture.mask for picture in dataset.pictures) else {})


def _buckets_told(config: ResolvedConfig) -> dict[str, Any]:
    return {
        "min_bucket_reso": config.bucket_min,
        "max_bucket_reso": config.bucket_max,
        "bucket_reso_steps": config.bucket_step,
        "bucket_no_upscale": config.no_upscale,
    }


def _bucket_info(dataset: Dataset, order: Order) -> dict[str, Any]:
    """Shapes with the pictures that an epoch takes of each, and how far pictures are from their shapes."""
    info = {
        str(index): {"resolution": list(shape), "count": int(group.rate)}
        for index, (shape, group) in enumerate(zip(dataset.shapes, order.groups, strict=True))
    }
    errors = [aspect_error(picture.size, picture.shape) for picture in dataset.pictures for _ in range(picture.folder.repeats)]
    return {"buckets": info, "mean_img_ar_error": round(fmean(errors), 6)}


def _dirs(folders: dict[Folder, int]) -> str:
    """Folders of one name are told as one."""
    found: dict[str, dict[str, int]] = {}
    for folder, count in folders.items():
        before = found.get(folder.path.name, {"img_count": 0})
        found[folder.path.name] = {"n_repeats": folder.repeats, "img_count": count + before["img_count"]}
    return json.dumps(found, ensure_ascii=False)


def _kept(config: ResolvedConfig) -> int:
    return config.keep_first or int(config.caption_shuffle)


def _subset(config: ResolvedConfig, folder: Folder, count: int) -> dict[str, Any]:
    return {
        "img_count": count,
        "num_repeats": folder.repeats,
        "flip_aug": config.flip,
        "color_aug": False,
        "random_crop": config.crop == "random",
        "shuffle_caption": config.caption_shuffle,
        "keep_tokens": _kept(config),
        "caption_prefix": config.caption_prefix or None,
        "caption_suffix": config.caption_suffix or None,
        "caption_dropout_rate": config.caption_dropout,
        "caption_tag_dropout_rate": config.tag_dropout,
        "alpha_mask": config.masks == "alpha",
        "image_dir": folder.path.name,
        "class_tokens": folder.caption or None,
        "is_reg": folder.regular,
    }
