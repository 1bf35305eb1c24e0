"""The words of kohya's trainer: options that mean the same under another name, and where to look for those that do not."""

from collections.abc import Mapping
from typing import Any

from loraloom.errors import SettingsError

RENAMED: Mapping[str, str] = {
    "train_data_dir": "pictures",
    "reg_data_dir": "regularization",
    "prior_loss_weight": "regularization_weight",
    "pretrained_model_name_or_path": "base",
    "network_dim": "rank",
    "network_alpha": "alpha",
    "network_dropout": "dropout",
    "network_weights": "warm_start",
    "conv_dim": "conv_rank",
    "scale_weight_norms": "max_norm",
    "loraplus_lr_ratio": "lora_plus",
    "max_train_steps": "steps",
    "train_batch_size": "batch",
    "gradient_accumulation_steps": "accumulate",
    "gradient_checkpointing": "checkpointing",
    "unet_lr": "learning_rate",
    "text_encoder_lr": "text_encoder_learning_rate",
    "optimizer_type": "optimizer",
    "optimizer_args": "optimizer_options",
    "lr_scheduler": "scheduler",
    "lr_warmup_steps": "warmup",
    "lr_scheduler_num_cycles": "restarts",
    "lr_scheduler_power": "power",
    "loss_type": "loss",
    "ip_noise_gamma": "input_perturbation",
    "multires_noise": "multires_noise_iterations",
    "debiased_estimation_loss": "debiased_estimation",
    "flip_aug": "flip",
    "enable_bucket": "buckets",
    "bucket_reso_steps": "bucket_step",
    "min_bucket_reso": "bucket_min",
    "max_bucket_reso": "bucket_max",
    "bucket_no_upscale": "no_upscale",
    "shuffle_caption": "caption_shuffle",
    "caption_dropout_rate": "caption_dropout",
    "caption_tag_dropout_rate": "tag_dropout",
    "keep_tokens": "keep_first",
    "save_every_n_steps": "save_every",
    "sample_every_n_steps": "sample_every",
    "save_precision": "dtype",
    "training_comment": "description",
    "metadata_title": "title",
    "metadata_author": "author",
    "metadata_license": "license",
    "metadata_description": "description",
}

REMARKS: Mapping[str, str] = {
    "output_name": "give the whole file as output",
    "output_dir": "give the whole file as output",
    "max_train_epochs": "the course is counted in steps: epochs × pictures × repeats / batch",
    "network_module": "type says which kind: lora, loha, lokr, ...",
    "network_args": "each has an option of its own: type, conv_rank, dora, rank_dropout, ...",
    "network_train_unet_only": "components = unet, which is the default",
    "network_train_text_encoder_only": "components = te",
    "cache_latents": "latents are always cached in memory; cache names a folder that keeps them for the next run",
    "cache_latents_to_disk": "cache names a folder that keeps them for the next run",
    "cache_text_encoder_outputs": "they are always cached while the text encoder is not trained",
    "cache_text_encoder_outputs_to_disk": "cache names a folder that keeps them for the next run",
    "random_crop": "crop = random",
    "caption_extension": "captions are .txt or .caption, the first of two counts",
    "fp8_base": "base_dtype = float8",
    "full_bf16": "base_dtype = bfloat16",
    "full_fp16": "base_dtype = float16",
    "masked_loss": "masks = beside, or a folder of masks",
    "alpha_mask": "masks = alpha",
    "v2": "the base says it itself",
    "v_parameterization": "the base says it itself",
    "sdxl": "the base says it itself",
    "clip_skip": "captions are read as the base reads prompts",
    "max_token_length": "captions are read as the base reads prompts; what is cut is told",
    "xformers": "PyTorch's own attention is used, which needs no option",
    "sdpa": "PyTorch's own attention is used, which needs no option",
    "mem_eff_attn": "PyTorch's own attention is used, which needs no option",
    "max_data_loader_n_workers": "pictures are encoded once, before the first step",
    "persistent_data_loader_workers": "pictures are encoded once, before the first step",
    "lowram": "base_dtype and checkpointing take less memory",
    "save_model_as": "files are safetensors",
    "save_state": "a state is always saved; keep_state keeps it after the end",
    "save_every_n_epochs": "save_every counts steps",
    "sample_every_n_epochs": "sample_every counts steps",
    "color_aug": "there is no such change of colours",
}


def understood(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under our names. Raises SettingsError where one thing is said under both names, with two values."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        ours = RENAMED.get(name, name)
        if ours in values and ours != name and values[ours] != value:
            raise SettingsError(f"training options: {name} and {ours} are the same, and have {value!r} and {values[ours]!r}; give one")
        found[ours] = value
    return found


def arguments(words: list[str]) -> list[str]:
    """Arguments of the command line with kohya's options under our names: `--network_dim=16` is `--rank=16`."""
    return [_argument(word) for word in words]


def _argument(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    ours = name.replace("-", "_")
    if ours in REMARKS:
        raise SettingsError(f"--{name} is an option of kohya's trainer; here: {REMARKS[ours]}")
    return f"--{_FLAGS.get(RENAMED[ours], RENAMED[ours].replace('_', '-'))}{equals}{value}" if ours in RENAMED else word


_FLAGS = {"learning_rate": "lr", "text_encoder_learning_rate": "text-encoder-lr", "optimizer_options": "optimizer-option"}
_FLAGS |= {"multires_noise_iterations": "multires-noise", "debiased_estimation": "debiased"}
