"""Options to resources: chat formats, engines, boundary predictors."""

from __future__ import annotations

import datetime
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.classifier.predictor import TokenClassifierPredictor
from tessy.boundary.load import load_predictor
from tessy.config.base import ModelConfig, RoleConfig
from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import SynthesisOptions
from tessy.core.errors import ConfigError, ModelError
from tessy.core.records import AUTHORS, Author, other
from tessy.core.tasks import gather_or_cancel
from tessy.inference.base import Engine, EngineInfo, Sampling
from tessy.inference.http.address import read_address, read_api_key, shown_url
from tessy.inference.http.engine import HttpEngine
from tessy.inference.http.served_root import served_root
from tessy.inference.local.engine import LocalEngine
from tessy.inference.pool.pool import ReplicaPool
from tessy.synthesis.context import (
    PAPER_DRAFT_TOKENS,
    REQUEST_TOKENS,
    RoleBackend,
    SynthesisContext,
)
from tessy.synthesis.strategies.registry import (
    answering_model,
    candidates,
    generating_models,
    strategy_of,
)
from tessy.tokenization.families import can_find_tokenizer, is_path, load_renderer, why_not_found
from tessy.tokenization.renderer import Renderer
from tessy.tokenization.token_ids import Codec

Options = SynthesisOptions | SampleConfig
OnWait = Callable[[str | None], None]
OnMove = Callable[[str, Author, str], None]  # sample, role, replica

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SynthesisResources:
    """The context of a run, its servers, and listeners for moves of samples to another replica."""

    context: SynthesisContext
    infos: dict[Author, EngineInfo]
    pools: dict[Author, ReplicaPool]
    move_listeners: list[OnMove] = field(default_factory=list)


def load_renderers(config: Options) -> dict[Author, Renderer]:
    """Load the chat formats of the models that take part, and of the rows' model."""
    needed = dict(models(config))
    if isinstance(config, SynthesisOptions):
        needed = {"student": config.student, **needed}  # rows are in its format
    return {
        author: load_role_renderer(model, author, config.date) for author, model in needed.items()
    }


FORMAT_NAMES = frozenset(f"{author}.format" for author in AUTHORS)  # keys of `formats`


def formats(renderers: Mapping[Author, Renderer]) -> dict[str, str]:
    """Return a digest of each role's tokenizer and chat template; ids and prompts depend on it."""
    return {
        f"{author}.format": hashlib.sha256(
            f"{renderer.codec.digest}\n{renderer.template.source}".encode()
        ).hexdigest()
        for author, renderer in renderers.items()
    }


def check_servers(config: Options) -> None:
    """Check URLs and API keys before anything is loaded; raises ConfigError."""
    for author, model in models(config).items():
        api_key = _api_key(model, author) if model.url else None
        for url in model.url:
            read_address(url, api_key)
        if len(set(replica_names(model))) < len(model.url):
            raise ConfigError(
                f"{_option(model, author, 'url')}: a server is given twice in "
                f"{', '.join(replica_names(model))}"
            )


def check_folders(config: Options) -> None:
    """Check that local folders of models exist, before anything is loaded; raises ModelError."""
    for author, model in models(config).items():
        names = {"tokenizer": model.tokenizer, "model": None if model.url else model.model}
        if isinstance(model, RoleConfig) and ":" not in model.predictor:
            names["predictor"] = model.predictor
        for option, name in names.items():
            if name is not None and is_path(name) and not Path(name).expanduser().is_dir():
                raise ModelError(
                    f"{_option(model, author, option)}: there is no folder {name!r}; pass the "
                    "folder or hub id of a model"
                )


def load_role_renderer(
    role: ModelConfig, author: Author, date: datetime.date | None = None
) -> Renderer:
    """Load the chat format of one model, whose prompts state ``date``; None: today."""
    return load_renderer(
        role.tokenizer or _tokenizer_name(role, author),
        trust_remote_code=role.trust_remote_code,
        reasoning_effort=role.reasoning_effort,
        force_thinking=role.force_thinking,
        date=date,
    )


def _tokenizer_name(role: ModelConfig, author: Author) -> str:
    """Return the model's name, or what its server loaded under a name of its own."""
    if not role.url or (found := can_find_tokenizer(role.model)):
        return role.model
    root = served_root(role.url, role.model, api_key=_api_key(role, author))
    if root is not None and (found := can_find_tokenizer(root, seconds=1.0)):
        log.info("%s: tokenizer of %s, which is served as %s", author, root, role.model)
        return root
    option = _option(role, author, "tokenizer")
    name = f"the server loaded it from {root!r}, which is" if root else "that name is"
    raise ModelError(
        f"the tokenizer of {role.model!r} was not found: {name} no folder here, and "
        f"{why_not_found(found)}; name the folder or hub id of its tokenizer with {option}"
    )


def roles(config: SynthesisOptions) -> dict[Author, RoleConfig]:
    """Return the options of both roles by name."""
    return {"student": config.student, "teacher": config.teacher}


def models(config: Options) -> Mapping[Author, ModelConfig]:
    """Return the options of the models that generate, by role."""
    if isinstance(config, SampleConfig):
        return {config.author: config}
    return {author: roles(config)[author] for author in generating_models(config)}


def make_replicas(role: ModelConfig, author: Author, codec: Codec) -> list[Engine]:
    """Return one engine per server of a role; without servers, the model in this process."""
    if not role.url:
        return [LocalEngine.load(role.model, trust_remote_code=role.trust_remote_code)]
    api_key = _api_key(role, author)
    streaming = _draft_tokens(role) is None
    return [
        HttpEngine(url, role.model, codec, api_key=api_key, streaming=streaming) for url in role.url
    ]


def _draft_tokens(role: ModelConfig) -> int | None:
    return role.draft_tokens if isinstance(role, RoleConfig) else None


def _api_key(role: ModelConfig, author: Author) -> str | None:
    return read_api_key(_option(role, author, "api-key-env"), role.api_key_env)


def _option(model: ModelConfig, author: Author, name: str) -> str:
    """Return an option of a model on the command line."""
    return f"--{author}.{name}" if isinstance(model, RoleConfig) else f"--{name}"


def replica_names(role: ModelConfig) -> Sequence[str]:
    """Return the names of a role's replicas for messages."""
    return tuple(map(shown_url, role.url)) or (f"{role.model} in this process",)


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """Models and predictors by role, loaded outside the event loop so that Ctrl-C interrupts it."""

    renderers: dict[Author, Renderer]
    replicas: dict[Author, list[Engine]]
    predictors: dict[Author, BoundaryPredictor]


def load_models(config: Options, renderers: dict[Author, Renderer]) -> LoadedModels:
    """Load models that run in this process, and predictors."""
    predictors: dict[Author, BoundaryPredictor] = {}
    if isinstance(config, SynthesisOptions):
        strategy = strategy_of(config)
        if strategy.in_turns:
            predictors = _load_predictors(config)
        elif strategy.reads_traces:
            role = config.student
            splitter = load_predictor(role.predictor, config.lexicon, role.window)
            predictors = {"student": splitter}
    replicas = {
        author: make_replicas(model, author, renderers[author].codec)
        for author, model in models(config).items()
    }
    return LoadedModels(renderers, replicas, predictors)


def _load_predictors(config: SynthesisOptions) -> dict[Author, BoundaryPredictor]:
    load = cache(load_predictor)  # roles with the same options share a predictor
    predictors = {
        author: load(role.predictor, config.lexicon, role.window)
        for author, role in roles(config).items()
    }
    for author, predictor in predictors.items():
        if isinstance(predictor, TokenClassifierPredictor) and predictor.author == other(author):
            log.warning(
                "%s.predictor: %s was trained on the %s's words; were the two swapped?",
                author,
                predictor.name,
                predictor.author,
            )
    return predictors


@asynccontextmanager
async def open_resources(
    config: Options,
    loaded: LoadedModels,
    on_wait: OnWait,
    check: Callable[[], None] = lambda: None,
) -> AsyncGenerator[SynthesisResources, None]:
    """Connect to the servers; close them and the ``loaded`` models at the end.

    ``on_wait`` is called with a message if no server of a role can be reached, with None
    afterwards. ``check`` is called while waiting and may raise to stop it.

    Raises:
        EngineError: A role has no usable server.
    """
    async with AsyncExitStack() as stack:
        for predictor in {id(p): p for p in loaded.predictors.values()}.values():
            stack.push_async_callback(predictor.aclose)
        pools: dict[Author, ReplicaPool] = {}
        move_listeners: list[OnMove] = []
        waiting: dict[Author, str] = {}
        for author, model in models(config).items():
            pool = ReplicaPool(
                loaded.replicas[author],
                replica_names(model),
                role=author,
                check=check,
                patience_seconds=config.server_patience_seconds,
                on_wait=partial(_report_waits, waiting, on_wait, author),
                on_move=partial(_notify, move_listeners, author),
            )
            pools[author] = await stack.enter_async_context(pool)
        infos = await _probe(pools)
        backends = {
            author: _backend(model, loaded.renderers[author], pools[author], infos[author])
            for author, model in models(config).items()
        }
        yield SynthesisResources(_context(config, backends, loaded), infos, pools, move_listeners)


async def _probe(pools: Mapping[Author, ReplicaPool]) -> dict[Author, EngineInfo]:
    """Probe the servers of all roles at the same time; raises the first failure."""
    infos = await gather_or_cancel(pool.probe() for pool in pools.values())
    return dict(zip(pools, infos, strict=True))


def _report_waits(
    waiting: dict[Author, str], on_wait: OnWait, author: Author, text: str | None
) -> None:
    """Call ``on_wait`` with the messages of all roles that wait: one may recover before another."""
    waiting.pop(author, None)
    if text is not None:
        waiting[author] = text
    on_wait("; ".join(waiting.values()) or None)


def _notify(move_listeners: Sequence[OnMove], author: Author, key: str, name: str) -> None:
    for listener in move_listeners:
        listener(key, author, name)


def _context(
    config: Options, backends: dict[Author, RoleBackend], loaded: LoadedModels
) -> SynthesisContext:
    context = SynthesisContext(
        backends=backends,
        strategy="sample",
        answering="student",
        thinking_tokens=config.thinking_tokens,
        answer_tokens=config.answer_tokens,
        seed=config.seed,
        keep_ids=not config.no_ids,
        predictors=loaded.predictors,
    )
    if isinstance(config, SampleConfig):
        return replace(context, answering=config.author, home=config.author)
    return replace(
        context,
        strategy=config.strategy,
        answering=answering_model(config),
        renderer=loaded.renderers["student"],
        cut=config.cut,
        candidates=candidates(config),
        unfit=config.unfit,
        keeps_answer=config.answer_by == "trace",
        score_by=config.score_by,
    )


def _backend(
    role: ModelConfig, renderer: Renderer, engine: Engine, info: EngineInfo
) -> RoleBackend:
    known = [tokens for tokens in (role.context_tokens, info.context_tokens) if tokens is not None]
    # Without streaming a request cannot be closed early: the paper's k wastes less than a long one.
    longest = REQUEST_TOKENS if info.streaming else PAPER_DRAFT_TOKENS
    return RoleBackend(
        renderer=renderer,
        engine=engine,
        sampling=Sampling(**role.sampling.model_dump()),
        request_tokens=_draft_tokens(role) or longest,
        context_tokens=min(known) if known else None,
        native_ids=info.mode != "text",
        score_tokens=0 if info.mode == "local" else 1,
    )
