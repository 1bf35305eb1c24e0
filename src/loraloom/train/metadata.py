"""What a trained file says about itself, in the words that other tools read: formats.md §5."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from loraloom.adapters import Norm
from loraloom.bases import Base
from loraloom.strength import is_text_encoder
from loraloom.train.config import ResolvedConfig
from loraloom.train.dataset import Dataset
from loraloom.train.loss import Prediction
from loraloom.train.pictures_told import pictures_told

# Paths may hold their owner's name; only their last part is written.
_PRIVATE = {"pictures", "regularization", "validation", "masks", "cache", "output", "base", "warm_start", "sample_file"}


def metadata(
    config: ResolvedConfig, base: Base, dataset: Dataset, *, prediction: Prediction, step: int, loss: float, started: float, now: float
) -> dict[str, str]:
    """Every value as text. `started` and `now` are seconds since 1970; `dialects.write` adds the base's names and hashes."""
    return {
        **_network(config),
        **_optimisation(config),
        **pictures_told(config, dataset, step),
        **_spec(config, prediction, now),
        **family_told(base, prediction),
        "ss_sd_model_name": str(_last_part(config.base)),
        "ss_output_name": config.output.stem,
        "ss_steps": str(step),
        "ss_training_started_at": str(started),
        "ss_training_finished_at": str(now),
        "loraloom.loss": f"{loss:.6g}",
        "loraloom.effective_learning_rate": f"{config.effective_rate:g}",
        "loraloom.train": json.dumps(_recipe(config)),
    }


# LyCORIS' words for options of ours; the others are the same.
_ARGUMENTS = {"tucker": "use_tucker"}


def family_told(base: Base, prediction: Prediction) -> dict[str, str]:
    """Which kind of SD 2.x it is, as kohya's trainer says it; `dialects.write` adds the names of the others."""
    if base.family != "sd2":
        return {"ss_v2": "False"}
    if prediction == "epsilon":
        return {"ss_v2": "True"}
    return {"ss_v2": "True", "ss_base_model_version": "sd_v2_v", "modelspec.architecture": "stable-diffusion-v2-768-v/lora"}


def _network(config: ResolvedConfig) -> dict[str, str]:
    """The job's own type; `dialects.write` corrects it where the file has others."""
    recipe = config.recipe
    tucker = config.tucker or bool(recipe.options.get("tucker"))
    kohya = config.type == "lora" and not (tucker or config.dora or config.rslora)  # what kohya's own networks.lora can hold
    told: dict[str, object] = {} if kohya or recipe.kind is None else {"algo": recipe.kind.name}
    if not (kohya or config.targets or config.conv_rank or recipe.kind is Norm):
        told["preset"] = "attn-mlp"  # what LyCORIS calls the same modules
    if config.conv_rank:
        told |= {"conv_dim": config.conv_rank, "conv_alpha": _number(config.conv_alpha)}
    told |= {_ARGUMENTS.get(name, name): value for name, value in recipe.options.items() if name != "on_input"}
    told |= {"use_tucker": True} if tucker else {}
    told |= {"wd_on_output": False} if recipe.options.get("on_input") else {}
    told |= {"rs_lora": True} if config.rslora else {}
    told |= {name: value for name in ("rank_dropout", "module_dropout") if (value := getattr(config, name))}
    told |= {"loraplus_lr_ratio": config.lora_plus} if config.lora_plus != 1 else {}
    sizes = {"ss_network_dim": str(config.rank), "ss_network_alpha": _number(config.alpha)}
    return {
        "ss_network_module": "networks.lora" if kohya else "lycoris.kohya",
        **({} if config.targets or config.warm_start else sizes),  # else what most modules have
        "ss_network_args": json.dumps({name: str(value) for name, value in told.items()}),
        "ss_network_dropout": str(config.dropout) if config.dropout else "None",
        "ss_scale_weight_norms": str(config.max_norm) if config.max_norm else "None",
    }


def _optimisation(config: ResolvedConfig) -> dict[str, str]:
    denoiser, text = (
        config.learning_rate_of(name) if any(is_text_encoder(part) == is_text for part in config.components) else 0.0
        for name, is_text in (("unet", False), ("text_encoder", True))
    )
    return {
        "ss_learning_rate": str(config.learning_rate),
        "ss_unet_lr": str(denoiser),
        "ss_text_encoder_lr": str(text),
        "ss_optimizer": f"{config.optimizer}({','.join((f'weight_decay={config.weight_decay}', *config.optimizer_options))})",
        "ss_lr_scheduler": config.scheduler,
        "ss_lr_warmup_steps": str(config.warmup),
        "ss_max_train_steps": str(config.steps),
        "ss_gradient_accumulation_steps": str(config.accumulate),
        "ss_max_grad_norm": str(config.max_grad_norm),
        "ss_gradient_checkpointing": str(config.checkpointing),
        "ss_mixed_precision": {"no": "no", "bfloat16": "bf16", "float16": "fp16"}[config.mixed_precision],
        "ss_fp8_base": str(config.base_dtype == "float8"),
        **_loss(config),
        "ss_caption_dropout_rate": str(config.caption_dropout),
        "ss_cache_latents": "True",
        "ss_seed": str(config.seed),
    }


def _loss(config: ResolvedConfig) -> dict[str, str]:
    """What is off is "None", as kohya writes it."""
    huber = config.loss in ("huber", "smooth_l1")
    found = {
        "ss_loss_type": config.loss,
        "ss_huber_schedule": config.huber_schedule if huber else "",
        "ss_huber_c": config.huber_c if huber else "",
        "ss_min_snr_gamma": float(config.min_snr_gamma),
        "ss_debiased_estimation": config.debiased_estimation,
        "ss_zero_terminal_snr": config.zero_terminal_snr,
        "ss_noise_offset": config.noise_offset,
        "ss_noise_offset_random_strength": config.noise_offset_random,
        "ss_multires_noise_iterations": config.multires_noise_iterations,
        "ss_multires_noise_discount": config.multires_noise_discount if config.multires_noise_iterations else "",
        "ss_ip_noise_gamma": config.input_perturbation,
        "ss_ip_noise_gamma_random_strength": config.input_perturbation_random,
    }
    return {name: str(value) if value or isinstance(value, bool) else "None" for name, value in found.items()}


def _spec(config: ResolvedConfig, prediction: Prediction, now: float) -> dict[str, str]:
    """Stability AI's ModelSpec 1.0.1, https://github.com/Stability-AI/ModelSpec."""
    spec = {
        "title": config.title or config.output.stem,
        "date": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "resolution": f"{config.resolution}x{config.resolution}",
        "prediction_type": {"v_prediction": "v", "flow_prediction": "flow"}.get(prediction, "epsilon"),
        "trigger_phrase": config.trigger,
        "tags": config.trigger,
        "author": config.author,
        "license": config.license,
        "description": config.description,
    }
    return {f"modelspec.{name}": value for name, value in spec.items() if value}


def _recipe(config: ResolvedConfig) -> Mapping[str, Any]:
    found = config.model_dump(mode="json")
    return found | {name: _last_part(found[name]) for name in _PRIVATE if found[name] is not None}


def _last_part(path: str | list[str]) -> str | list[str]:
    if isinstance(path, list):
        return [str(_last_part(each)) for each in path]
    return path.rstrip("/\\").replace("\\", "/").split("/")[-1]


def _number(value: float) -> str:
    """8.0 as kohya writes it in these places."""
    return str(float(value))
