"""What a trained file says about itself, in the words that other tools read: formats.md §5."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from loraloom.train.config import ResolvedConfig
from loraloom.train.dataset import Dataset, Folder
from loraloom.train.loss import Prediction

_PRIVATE = {"pictures", "output", "base"}  # paths may hold their owner's name; only their last part is written


def metadata(
    config: ResolvedConfig, dataset: Dataset, *, prediction: Prediction, step: int, loss: float, started: float, now: float
) -> dict[str, str]:
    """Every value as text. `started` and `now` are seconds since 1970; `dialects.write` adds the base's names and hashes."""
    return {
        **_network(config),
        **_optimisation(config),
        **_pictures(config, dataset, step),
        **_spec(config, prediction, now),
        "ss_v2": "False",
        "ss_sd_model_name": config.base.rstrip("/\\").replace("\\", "/").split("/")[-1],
        "ss_output_name": config.output.stem,
        "ss_steps": str(step),
        "ss_training_started_at": str(started),
        "ss_training_finished_at": str(now),
        "loraloom.loss": f"{loss:.6g}",
        "loraloom.train": json.dumps(_recipe(config)),
    }


def _network(config: ResolvedConfig) -> dict[str, str]:
    kohya = config.type == "lora" and not config.tucker  # what kohya's own networks.lora can hold
    arguments = {} if kohya else {"algo": config.type}
    if config.conv_rank:
        arguments |= {"conv_dim": str(config.conv_rank), "conv_alpha": _number(config.conv_alpha)}
    if config.tucker:
        arguments |= {"use_tucker": "True"}
    return {
        "ss_network_module": "networks.lora" if kohya else "lycoris.kohya",
        "ss_network_dim": str(config.rank),
        "ss_network_alpha": _number(config.alpha),
        "ss_network_args": json.dumps(arguments),
    }


def _optimisation(config: ResolvedConfig) -> dict[str, str]:
    denoiser, text = (
        config.learning_rate_of(name) if any(part.startswith("text_encoder") == is_text for part in config.components) else 0.0
        for name, is_text in (("unet", False), ("text_encoder", True))
    )
    return {
        "ss_learning_rate": str(config.learning_rate),
        "ss_unet_lr": str(denoiser),
        "ss_text_encoder_lr": str(text),
        "ss_optimizer": f"{config.optimizer}(weight_decay={config.weight_decay})",
        "ss_lr_scheduler": config.scheduler,
        "ss_lr_warmup_steps": str(config.warmup),
        "ss_max_train_steps": str(config.steps),
        "ss_gradient_accumulation_steps": str(config.accumulate),
        "ss_max_grad_norm": str(config.max_grad_norm),
        "ss_min_snr_gamma": _number(config.min_snr_gamma) if config.min_snr_gamma else "None",
        "ss_noise_offset": str(config.noise_offset) if config.noise_offset else "None",
        "ss_caption_dropout_rate": str(config.caption_dropout),
        "ss_cache_latents": "True",
        "ss_seed": str(config.seed),
    }


def _pictures(config: ResolvedConfig, dataset: Dataset, step: int) -> dict[str, str]:
    count = sum(dataset.repeats)
    epochs, epoch = (-(-steps * config.per_step // count) for steps in (config.steps, step))
    folders = dict.fromkeys(picture.folder for picture in dataset.pictures)
    held = {folder: sum(picture.folder == folder for picture in dataset.pictures) for folder in folders}
    side = config.resolution
    subsets = [_subset(config, folder, held[folder]) for folder in folders]
    buckets = {"buckets": {"0": {"resolution": [side, side], "count": count}}, "mean_img_ar_error": 0.0}
    told = {
        "is_dreambooth": True,
        "batch_size_per_device": config.batch,
        "num_train_images": count,
        "num_reg_images": 0,
        "resolution": [side, side],
        "enable_bucket": False,
        "subsets": subsets,
        "tag_frequency": dataset.tag_frequency(),
    }
    return {
        "ss_num_train_images": str(count),
        "ss_num_reg_images": "0",
        "ss_num_batches_per_epoch": str(-(-count // config.batch)),
        "ss_num_epochs": str(epochs),
        "ss_epoch": str(epoch),
        "ss_batch_size_per_device": str(config.batch),
        "ss_total_batch_size": str(config.per_step),
        "ss_resolution": f"({side}, {side})",
        "ss_bucket_info": json.dumps(buckets),
        "ss_tag_frequency": json.dumps(dataset.tag_frequency(), ensure_ascii=False),
        "ss_datasets": json.dumps([told], ensure_ascii=False),
        "ss_dataset_dirs": json.dumps(
            {folder.path.name: {"n_repeats": folder.repeats, "img_count": held[folder]} for folder in folders}, ensure_ascii=False
        ),
    }


def _subset(config: ResolvedConfig, folder: Folder, count: int) -> dict[str, Any]:
    return {
        "img_count": count,
        "num_repeats": folder.repeats,
        "flip_aug": config.flip,
        "color_aug": False,
        "random_crop": False,
        "shuffle_caption": config.caption_shuffle,
        "keep_tokens": int(config.caption_shuffle),
        "image_dir": folder.path.name,
        "class_tokens": folder.caption or None,
        "is_reg": False,
    }


def _spec(config: ResolvedConfig, prediction: Prediction, now: float) -> dict[str, str]:
    """Stability AI's ModelSpec 1.0.1, https://github.com/Stability-AI/ModelSpec."""
    spec = {
        "title": config.title or config.output.stem,
        "date": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "resolution": f"{config.resolution}x{config.resolution}",
        "prediction_type": "v" if prediction == "v_prediction" else "epsilon",
        "trigger_phrase": config.trigger,
        "tags": config.trigger,
        "author": config.author,
        "license": config.license,
        "description": config.description,
    }
    return {f"modelspec.{name}": value for name, value in spec.items() if value}


def _recipe(config: ResolvedConfig) -> Mapping[str, Any]:
    found = config.model_dump(mode="json")
    return found | {name: str(found[name]).rstrip("/\\").replace("\\", "/").split("/")[-1] for name in _PRIVATE}


def _number(value: float) -> str:
    """8.0 as kohya writes it in these places."""
    return str(float(value))
