"""From the keys that tools use to canonical names. An ambiguous key is decided by its scope, or left raw.

A scope says what the keys around a key describe. It comes from the names of the dicts that hold it (`scope_of`) or
from the reader that knows the tool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from inspectcli.hparams.base import HParamRow, Kind, Origin, Priority, Reach
from inspectcli.hparams.privacy import is_private, is_private_place


class Named(NamedTuple):
    """What a key stands for; `name` is None if that is unknown or ambiguous."""

    name: str | None
    kind: Kind


def _table(text: str) -> dict[str, str]:
    """`name: key key` a line -> key -> name."""
    pairs = (line.split(":", 1) for line in text.strip().splitlines())
    return {key: name.strip() for name, keys in pairs for key in keys.split()}


#: Keys that mean the same wherever they stand.
_ANYWHERE = _table("""
learning_rate: lr learning_rate base_lr lr0 initial_lr initial_learning_rate base_learning_rate peak_lr init_lr lr_init
learning_rate: start_lr max_learning_rate blr
lr_unet: unet_lr
lr_text_encoder: text_encoder_lr
lr_min: min_lr eta_min lr_min stop_min_lr warmup_min_lr end_learning_rate min_learning_rate lr_end final_lr
lr_final_factor: lrf
lr_gamma: lr_gamma lr_decay_factor lr_factor decay_rate lr_decay_rate
lr_step_size: lr_step_size decay_epochs decay_steps lr_decay_steps
lr_milestones: milestones lr_steps decay_milestones lr_milestones
lr_t_max: t_max t_initial lr_decay_iters
lr_patience: patience_epochs lr_patience
lr_scheduler: lr_scheduler_type sched scheduler lr_schedule lr_scheduler lr_scheduler_name cos_lr decay_lr
lr_scheduler: scheduler_type scheduler_name lr_decay_style lr_policy
lr_warmup_start: warmup_lr warmup_init_lr warmup_start_lr
lr_noise: lr_noise
layer_decay: layer_decay layer_wise_lr_decay
warmup_steps: warmup_steps warmup_iters warmup_updates warmup_num_steps lr_warmup_steps num_warmup_steps n_warmup_steps
warmup_steps: lr_scheduler_warmup_steps lr_warmup_iters warmup_step
warmup_epochs: warmup_epochs num_warmup_epochs
warmup_ratio: warmup_ratio warmup_fraction lr_scheduler_warmup_ratio warmup_percent
warmup_factor: warmup_factor
warmup_momentum: warmup_momentum
batch_size: batch_size bs bsize batch_sz per_device_train_batch_size per_gpu_train_batch_size train_batch_size
batch_size: train_micro_batch_size_per_gpu micro_batch_size batch_size_per_device batch_size_per_gpu train_bs
batch_size: ims_per_batch samples_per_gpu batch_size_train device_batch_size minibatch_size mini_batch_size
batch_size_total: global_batch_size total_train_batch_size effective_batch_size total_batch_size
batch_size_eval: per_device_eval_batch_size eval_batch_size val_batch_size validation_batch_size per_gpu_eval_batch_size
batch_size_nominal: nbs
max_tokens: max_tokens
gradient_accumulation_steps: gradient_accumulation_steps accumulate_grad_batches update_freq grad_accum grad_accum_steps
gradient_accumulation_steps: iters_to_accumulate accumulation_steps gradient_accumulation grad_accumulation
gradient_accumulation_steps: accumulation_steps accum_iter grad_accumulation_steps accumulate_steps
epochs: epochs num_train_epochs max_epochs max_epoch n_epochs num_epochs nb_epoch nb_epochs max_train_epochs
epochs: total_epochs training_epochs total_epoch epoch_num epoch_nums n_epoch num_epoch
max_steps: max_steps max_iters max_iter max_update max_train_steps train_steps total_steps num_train_steps train_iters
max_steps: max_updates num_iterations total_iterations max_iterations num_training_steps max_step total_timesteps
optimizer: optimizer optim opt opt_type optimizer_name opt_cls optimizer_type optimizer_class optim_name
optimizer: optimizer_cls optim_type optim_cls
betas: betas opt_betas adam_betas
betas[0]: beta1 beta_1 adam_beta1
betas[1]: beta2 beta_2 adam_beta2
adam_epsilon: adam_epsilon adam_eps opt_eps
nesterov: nesterov
amsgrad: amsgrad
weight_decay: weight_decay wd weightdecay l2_reg weight_decay_rate
weight_decay_bias: weight_decay_bias bias_decay
gradient_clip: max_grad_norm grad_clip clip_grad clip_norm clipnorm gradient_clip_val gradient_clipping grad_norm_clip
gradient_clip: gradient_clip clip_grad_norm max_gradient_norm grad_clip_norm gradient_clip_norm grad_clip_val
gradient_clip_value: clipvalue clip_value grad_clip_value
gradient_clip_mode: clip_mode gradient_clip_algorithm
dropout: dropout drop drop_rate resid_pdrop hidden_dropout_prob hidden_dropout dropout_rate dropout_prob p_dropout
dropout: drop_out dropout_p resid_dropout
embedding_dropout: embd_pdrop embed_dropout embedding_dropout emb_dropout
attention_dropout: attn_pdrop attention_dropout attention_probs_dropout_prob attn_dropout attention_dropout_prob
activation_dropout: activation_dropout
classifier_dropout: classifier_dropout
drop_path: drop_path stochastic_depth drop_path_rate droppath
layer_dropout: layerdrop encoder_layerdrop decoder_layerdrop
label_smoothing: smoothing label_smoothing label_smoothing_factor label_smooth
num_layers: num_hidden_layers n_layer n_layers num_layers block_count encoder_layers e_layers n_encoder_layers
num_layers: num_encoder_layers nlayers num_blocks n_blocks num_convolution_layer num_conv_layers
num_decoder_layers: decoder_layers num_decoder_layers d_layers
hidden_size: hidden_size n_embd d_model embedding_length encoder_embed_dim hidden_dim embed_dim hidden nhid
hidden_size: hidden_channels n_hidden hidden_dims d_hidden model_dim n_embed d_h
hidden_units: hidden_units hidden_sizes hidden_layer_sizes layer_sizes
decoder_hidden_size: decoder_embed_dim
intermediate_size: intermediate_size n_inner d_ff ffn_dim feed_forward_length encoder_ffn_embed_dim dim_feedforward
intermediate_size: ffn_hidden_size encoder_ffn_dim ff_dim ffn_hidden_dim
mlp_ratio: mlp_ratio ff_mult ffn_ratio ffn_dim_multiplier
num_heads: num_attention_heads n_head n_heads num_heads head_count encoder_attention_heads nhead nheads
num_kv_heads: num_key_value_heads head_count_kv n_kv_heads num_query_groups n_query_groups num_kv_heads
head_dim: head_dim d_kv dim_head head_size
vocab_size: vocab_size n_vocab padded_vocab_size
context_length: max_position_embeddings n_positions n_ctx block_size context_length max_seq_len max_seq_length
context_length: seq_length sequence_length seq_len max_sequence_length context_size model_max_length
rope_theta: rope_theta rope_base
norm_eps: rms_norm_eps layer_norm_eps layer_norm_epsilon layer_norm_rms_epsilon norm_eps bn_eps layernorm_epsilon
norm_eps: group_norm_epsilon
bn_momentum: bn_momentum bn_mom batch_norm_momentum
activation: hidden_act activation_function activation act dense_act_fn feed_forward_proj nonlinearity act_fn act_layer
activation: hidden_activation activation_fn act_func
tie_embeddings: tie_word_embeddings tie_embeddings weight_tying share_decoder_input_output_embed
attention_bias: attention_bias
lora_rank: lora_r network_dim lora_rank lora_dim
lora_alpha: lora_alpha network_alpha
lora_dropout: lora_dropout network_dropout
lora_target_modules: lora_target_modules
lora_rslora: use_rslora
lora_dora: use_dora
image_size: img_size imgsz image_size image_resolution input_resolution resolution
patch_size: patch_size
kernel_size: kernel_shape kernel_size
stride: strides stride
padding: pads padding
dilation: dilations dilation dilation_rate
pool_size: pool_size
num_classes: num_classes n_classes nc num_labels n_class
precision: dtype torch_dtype mixed_precision amp fp16 bf16 precision param_dtype compute_dtype
seed: seed_everything seed random_seed random_state manual_seed rng_seed
loss: loss loss_fn criterion loss_type loss_function loss_name
ema_decay: ema_decay model_ema_decay
early_stopping_patience: early_stopping_patience early_stop_patience
mixup: mixup mixup_alpha
cutmix: cutmix cutmix_alpha
num_experts: num_experts num_local_experts expert_count n_experts n_routed_experts
experts_per_token: num_experts_per_tok expert_used_count
sliding_window: sliding_window
clip_skip: clip_skip
noise_offset: noise_offset
min_snr_gamma: min_snr_gamma
max_tokens_per_batch: max_tokens_per_batch
n_estimators: n_estimators
discount: discount_factor
architecture: architecture arch backbone model model_name net network model_type model_arch model_class net_type
architecture: model_name_or_path base_model pretrained_model_name_or_path
batch_size: local_batch_size per_device_batch_size
context_length: cutoff_len sequence_len
l1: l1_lambda lambda_l1 reg_alpha l1_regularization l1_weight l1_reg
l2: l2 l2_lambda lambda_l2 reg_lambda l2_regularization l2_weight l2_penalty l2_leaf_reg
type_vocab_size: type_vocab_size
embedding_size: embedding_size word_embed_proj_dim
""")

#: Keys whose meaning hangs on what stands around them.
_SCOPED: dict[str, dict[str, str]] = {
    "optimizer": _table("""
optimizer: name type class_name _component_ _name _target_ class_path algo method cls
adam_epsilon: eps epsilon
momentum: momentum mom
learning_rate: rate eta
rmsprop_alpha: alpha rho
dampening: dampening
"""),
    "scheduler": _table("""
lr_scheduler: name type class_name _component_ _name _target_ class_path kind cls
learning_rate: max_lr warmup_max_lr max_lrs base_lrs
lr_gamma: factor gamma
lr_step_size: step_size
lr_t_max: t_0
lr_patience: patience
lr_power: power
warmup_steps: warmup
max_steps: total_iters total_num_steps num_training_steps
lr_alpha: alpha
lr_start_factor: start_factor
lr_end_factor: end_factor
"""),
    "lora": _table("""
lora_rank: r rank dim
lora_alpha: alpha
lora_dropout: dropout
lora_target_modules: target_modules
lora_rank_pattern: rank_pattern
lora_alpha_pattern: alpha_pattern
"""),
    "norm": _table("""
bn_momentum: momentum
norm_eps: eps epsilon
"""),
    "dropout": _table("dropout: p rate prob"),
    "model": _table("""
hidden_size: dim width units hidden_dim channels
num_layers: depth layers n_layer
bias: bias
architecture: _component_ class_name _target_
"""),
    "loss": _table("loss: name type class_name _component_ _target_ class_path _name"),
    "precision": _table("precision: enabled"),
    "clip": _table("""
gradient_clip: max_norm val norm
gradient_clip_value: value
"""),
    "data": _table("batch_size: batch"),
    "train": _table("""
momentum: momentum mom
adam_epsilon: eps
batch_size: batch
max_steps: iterations steps
gradient_clip: max_norm
early_stopping_patience: patience
l2: lambda
"""),
    # detectron2 and its kin: SOLVER holds optimizer, schedule and length.
    "solver": _table("""
lr_gamma: gamma
lr_milestones: steps
"""),
    # Keras spells a schedule's settings its own way.
    "keras_schedule": _table("""
lr_scheduler: class_name
lr_decay_rate: decay_rate
lr_decay_steps: decay_steps
lr_alpha: alpha
lr_power: power
"""),
    "keras_regularizer": _table("""
l1: l1
l2: l2
"""),
    "config": _table("""
momentum: momentum mom
batch_size: batch
max_lr: max_lr
learning_rate: eta
bias: bias
gradient_clip: max_norm
early_stopping_patience: patience
l2: lambda
"""),
    # Estimators of scikit-learn: `alpha` is the weight of the L2 penalty, `learning_rate` the name of a schedule.
    "sklearn": _table("""
learning_rate: learning_rate_init eta0 eta_0
optimizer: solver
l2: alpha l2_regularization
adam_epsilon: epsilon
nesterov: nesterovs_momentum
early_stopping_patience: n_iter_no_change
hidden_units: hidden_layer_sizes
momentum: momentum
"""),
    # The top of a checkpoint: how far training is.
    "checkpoint": _table("""
epoch.current: epoch current_epoch
step.current: global_step iter_num iter iteration step num_updates steps
"""),
}

#: A scope is a special case of another: what it does not say, that one may.
_WITHIN = {"checkpoint": "config", "solver": "train"}

#: In these scopes, keys that elsewhere are clear mean something else.
_NOT_IN: dict[str, frozenset[str]] = {
    "scheduler": frozenset({"optimizer", "scheduler"}),
    "model": frozenset({"opt"}),
    "data": frozenset("hidden num_layers activation drop padding scheduler optimizer loss".split()),
    "loss": frozenset("gamma scheduler optimizer".split()),
    "quantization": frozenset({"dtype", "block_size"}),
    "generation": frozenset("seed max_steps".split()),
    "augmentation": frozenset("gamma padding dtype drop".split()),
    "metrics": frozenset("loss epoch lr learning_rate step".split()),
}

#: What the last word of a dict's key says about the keys in it; the nearest that says something counts.
_SCOPE_WORDS: tuple[tuple[str, str], ...] = (
    (r"sched|lr_config|lr_policy|param_scheduler|warmup_config", "scheduler"),
    (r"optim|^opt(_|$)|_opt$|^adamw?$|^sgd$", "optimizer"),
    (r"lora|adapter|^peft", "lora"),
    (r"quant|bnb", "quantization"),
    (r"generation|sampling", "generation"),
    (r"augment|transform_(args|cfg|config)|^aug$", "augmentation"),
    (r"batch_?norm|layer_?norm|group_?norm|^norm(_|$)|^bn$", "norm"),
    (r"^dropout", "dropout"),
    (r"^(fp16|bf16|amp)$", "precision"),
    (r"^(loss|criterion)(_|$)", "loss"),
    (r"clip", "clip"),
    (r"metrics|history|results|summary", "metrics"),
    (r"^model|_model$|^arch|network|^net$|backbone|encoder|decoder|transformer$|policy", "model"),
    (r"^data|_data$|dataset|loader", "data"),
    (r"^solver$", "solver"),
    (r"train|hparams|hyper_?param", "train"),
)

#: Settings: not tuned, not learnt.
_SETTING = re.compile(
    r"""(^|_)(path|paths|dir|dirs|folder|file|files|filename|root|url|uri|device|devices|gpu|gpus|workers|num_workers|
    verbose|verbosity|logger|logging|host|hostname|port|user|username|project|entity|tags|comment|timestamp|date|
    version|token_id|token_ids|tokenizer|checkpoint|resume|pretrained|cache|dataset|notes|experiment|id|uuid|ids)$
    |^(save|log|logging|eval|report|push|hub|wandb|tensorboard|debug|print|ddp|fsdp|torch_compile|dataloader|
    disable|metric|ray|tpu|deepspeed|accelerator|xpu|jit|sharded|output|do|use_cpu|use_mps|use_legacy)(_|$)
    |^(initializer|init|kernel_initializer|bias_initializer|initializer_range|initializer_factor|use_cache|
    architectures|name|names|n_gpu|no_cuda|local_rank|rank|world_size|distributed|num_nodes|backend|compile|
    pin_memory|persistent_workers|prefetch_factor|workers|foreach|capturable|maximize|differentiable|
    fused|decoupled_weight_decay|params|_.*|loops|callbacks|include_.*|model_name|model_id|run_name|group|job_type|plots|show.*|exist_ok)$""",
    re.VERBOSE,
)
_INITIALIZER = re.compile(r"initiali[sz]er|^init_|_init$|_init_")

_AUGMENTATION = frozenset(
    """hsv_h hsv_s hsv_v degrees translate scale shear perspective flipud fliplr bgr mosaic copy_paste copy_paste_mode
    auto_augment erasing crop_fraction close_mosaic hflip vflip color_jitter aa aug_splits reprob remode recount resplit
    mixup cutmix cutmix_minmax mixup_prob mixup_switch_prob mixup_mode mixup_off_epoch train_interpolation jsd_loss
    aug_repeats crop_pct flip_aug color_aug random_crop ratio""".split()
)

#: Keys of a generation config that choose nothing.
_NOT_SAMPLING = frozenset("output_attentions output_hidden_states output_scores output_logits return_dict".split())

#: What happened, at the top of a checkpoint.
_OUTCOME = re.compile(r"(^|_)(loss|acc|accuracy|best|metric|score|fitness|error|bleu|wer|f1|auc|map|top1|top5)($|_|\d)")

#: What a value must be to be called by this name: anything may be unset.
_TEXTUAL = frozenset(
    "optimizer lr_scheduler activation loss precision gradient_clip_mode bias padding lora_target_modules"
    " architecture".split()
)
_LOGICAL = frozenset(
    "nesterov amsgrad lr_scheduler precision tie_embeddings attention_bias bias lora_rslora lora_dora seed".split()
)
_WHOLE = frozenset("num_layers num_heads batch_size epochs max_steps vocab_size context_length".split())
_WORDS_FOR_NUMBERS = frozenset("auto none null ??? same valid".split())
_EXAMPLE = re.compile(r"\$\{.*\}|[-+(\[\d.]")


def snake(key: str) -> str:
    """`learningRate`, `learning-rate`, `BASE_LR` -> `learning_rate`, `base_lr`."""
    key = re.sub(r"[-\s]+", "_", key.strip())
    if not key.isupper():
        key = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key)
    return key.lower()


def scope_of(parents: Sequence[str], default: str = "") -> str:
    """Return the scope that the innermost parent names: `('config', 'optim_cfg')` -> `optimizer`; else `default`."""
    for parent in reversed(parents):
        scope = _scope_word(parent)
        if scope:
            return scope
    return default


@lru_cache(maxsize=4096)
def _scope_word(parent: str) -> str:
    word = snake(parent)
    return next((scope for pattern, scope in _SCOPE_WORDS if re.search(pattern, word)), "")


def canonical(raw_key: str, scope: str = "", value: object = None) -> Named:
    """The canonical name of a key.

    Args:
        raw_key: as the file has it; `model/hidden dim` and `optim.lr` bring their scope along.
        scope: what the keys around it describe: a key of the tables here, or empty.
        value: decides a few: `optimizer` must be text, `layers` is a number or a list of sizes.
    """
    *parents, last = re.split(r"[/.](?=\D)", raw_key)
    key = snake(last).removeprefix("ss_") or last
    scope = scope_of([p for p in parents if p not in ("config", "hparams")], scope)
    name = _lookup(key, scope, value)
    if scope == "generation":
        if _SETTING.search(key) or key in _NOT_SAMPLING:
            return Named(None, Kind.SETTING)
        return Named(f"generation.{key}", Kind.INFERENCE)
    if scope == "metrics":
        return Named(None, Kind.SETTING)
    if scope == "augmentation" or (key in _AUGMENTATION and scope != "model"):
        return Named(name, Kind.STATIC if name else Kind.AUGMENTATION)
    if scope == "checkpoint" and _OUTCOME.search(key) and not isinstance(value, str):
        return Named(None, Kind.SETTING)
    if name is None:
        setting = _SETTING.search(key) or _INITIALIZER.search(key)
        return Named(None, Kind.SETTING if setting else Kind.STATIC)
    return Named(name, Kind.DYNAMIC if name.endswith(".current") else Kind.STATIC)


def _lookup(key: str, scope: str, value: object) -> str | None:
    elsewhere = key in _NOT_IN.get(scope, ())
    name = None if elsewhere else _by_value(key, value)
    level: str | None = scope
    while level and name is None:
        name = _SCOPED.get(level, {}).get(key)
        level = _WITHIN.get(level, "")
    if name is None and not elsewhere:
        name = _ANYWHERE.get(key)
    return name if name is not None and _plausible(name, value) else None


def _by_value(key: str, value: object) -> str | None:
    """Keys that mean another thing with another type of value."""
    if key == "layers":
        sizes = isinstance(value, list) or (isinstance(value, str) and value.startswith(("[", "(")))
        return "hidden_units" if sizes else "num_layers" if type(value) is int else None
    if key in ("hidden", "hidden_dims", "hidden_size", "hidden_dim", "units") and isinstance(value, list):
        return "hidden_units"
    if key == "warmup" and type(value) is int:
        return "warmup_steps"
    if key == "warmup_steps" and isinstance(value, float) and 0 < value < 1:  # transformers 5: a share of all steps
        return "warmup_ratio"
    return None


def _plausible(name: str, value: object) -> bool:
    """Whether a value of this type can be meant by this name."""
    if value is None or isinstance(value, Mapping):
        return value is None
    base = name.split("[")[0]
    if isinstance(value, bool):
        return base in _LOGICAL
    if isinstance(value, str):
        if base in _TEXTUAL or base in _LOGICAL:
            return True
        word = value.strip()
        return not word or word.lower() in _WORDS_FOR_NUMBERS or bool(_EXAMPLE.match(word)) or base not in _NUMERIC
    if isinstance(value, int | float):
        return base not in ("optimizer", "lr_scheduler", "activation", "loss", "architecture")
    return not (isinstance(value, list | tuple) and base in _WHOLE and len(value) > 1)


#: Names whose value is a number (or a list of numbers).
_NUMERIC = (frozenset(_ANYWHERE.values()) | {n for t in _SCOPED.values() for n in t.values()}) - _TEXTUAL


def hparam(
    raw_key: str,
    value: object,
    origin: Origin,
    scope: str = "",
    note: str = "",
    stored: str = "",
    priority: Priority = Priority.STATED,
    reach: Reach = Reach.RUN,
) -> HParamRow:
    """A row, named.

    A switch that is named after a type of number, such as `bf16: true`, has that as its value.
    """
    if is_private_place(origin.locator):
        return HParamRow(None, raw_key, value, None, Kind.SETTING, origin, note, stored, True, priority, reach)
    name, kind = canonical(raw_key, scope, value)
    private = is_private(raw_key, value)
    if name == "precision" and isinstance(value, bool):
        return _switched(HParamRow(name, raw_key, value, None, kind, origin, note, stored, private, priority, reach))
    if name in _UNSET and value == -1 and type(value) is int:
        note = "-1: not set"
        return HParamRow(name, raw_key, value, None, kind, origin, note, stored, private, priority, reach, True)
    return HParamRow(name, raw_key, value, None, kind, origin, note, stored, private, priority, reach)


#: -1 stands for no value here: https://huggingface.co/docs/transformers/main_classes/trainer, detectron2, Lightning.
_UNSET = frozenset({"max_steps", "epochs", "seed"})
_SWITCHES = frozenset({"bf16", "fp16", "fp32", "tf32", "amp"})


def _switched(row: HParamRow) -> HParamRow:
    key = snake(row.raw_key)
    called = key if key in _SWITCHES else snake(row.source.locator.rpartition(".")[2])
    if called not in _SWITCHES:
        return row
    if row.value is True:
        return replace(row, value=called, stored=row.stored or "true")
    return replace(row, unresolved=True)
