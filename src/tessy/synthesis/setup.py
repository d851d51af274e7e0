"""From options to the models at the table: formats, engines, boundary predictors."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.classifier.predictor import TokenClassifierPredictor
from tessy.boundary.load import load_predictor
from tessy.config.predictors import SampleConfig
from tessy.config.synthesis import ModelConfig, RoleConfig, SynthesisOptions
from tessy.core.errors import ConfigError
from tessy.core.records import AUTHORS, Author, other
from tessy.inference.base import Engine, EngineInfo, Sampling
from tessy.inference.http.address import server_root, shown_url
from tessy.inference.http.engine import HttpEngine
from tessy.inference.local.engine import LocalEngine
from tessy.inference.pool.pool import ReplicaPool
from tessy.synthesis.context import (
    PAPER_DRAFT_TOKENS,
    REQUEST_TOKENS,
    RoleBackend,
    SynthesisContext,
)
from tessy.synthesis.strategies.registry import answering_model, generating_models
from tessy.tokenization.renderers import Renderer, load_renderer
from tessy.tokenization.token_ids import Codec

Options = SynthesisOptions | SampleConfig
OnWait = Callable[[str | None], None]
OnMove = Callable[[str, Author, str], None]  # sample, role, replica

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SynthesisResources:
    """The room of a run, and what its servers said of themselves.

    Attributes:
        room: What all samples share.
        infos: What each role's probe found.
        pools: Each role's replicas.
    """

    context: SynthesisContext
    infos: dict[Author, EngineInfo]
    pools: dict[Author, ReplicaPool]
    _listeners: list[OnMove] = field(default_factory=list)

    def follow(self, listener: OnMove) -> None:
        """Tell ``listener`` of every sample that changes its replica."""
        self._listeners.append(listener)


def load_renderers(config: Options) -> dict[Author, Renderer]:
    """The chat formats of the models that take part, and of the one whose format rows are in.

    Raises:
        ModelError: A tokenizer or template that cannot be used.
    """
    return {author: load_role_renderer(model) for author, model in _read(config).items()}


FORMAT_NAMES = frozenset(f"{author}.format" for author in AUTHORS)  # keys of `formats`


def formats(renderers: Mapping[Author, Renderer]) -> dict[str, str]:
    """A digest of each role's tokenizer and chat template: what ids and prompts depend on."""
    return {
        f"{author}.format": hashlib.sha256(
            f"{renderer.codec.digest}\n{renderer.template.source}".encode()
        ).hexdigest()
        for author, renderer in renderers.items()
    }


def check_servers(config: Options) -> None:
    """Find what is wrong with URLs and keys before anything is loaded.

    Raises:
        ConfigError: A URL that is none, or the variable of an API key is not set.
    """
    for author, model in models(config).items():
        for url in model.url:
            server_root(url)
        if model.url:
            _api_key(model, author)


def load_role_renderer(role: ModelConfig) -> Renderer:
    """The chat format of one model.

    Raises:
        ModelError: A tokenizer or template that cannot be used.
    """
    return load_renderer(
        role.tokenizer or role.model,
        trust_remote_code=role.trust_remote_code,
        reasoning_effort=role.reasoning_effort,
    )


def roles(config: SynthesisOptions) -> dict[Author, RoleConfig]:
    """The two roles by name."""
    return {"student": config.student, "teacher": config.teacher}


def models(config: Options) -> Mapping[Author, ModelConfig]:
    """The models that write, by role: those that have to be reached."""
    if isinstance(config, SampleConfig):
        return {config.author: config}
    return {author: roles(config)[author] for author in generating_models(config)}


def _read(config: Options) -> Mapping[Author, ModelConfig]:
    """The models whose tokenizers are needed: the student's in any synthesis."""
    if isinstance(config, SampleConfig):
        return models(config)
    return {"student": config.student, **models(config)}


def make_replicas(role: ModelConfig, author: Author, codec: Codec) -> list[Engine]:
    """One engine per server of a role; without servers, the model in this process.

    Raises:
        ConfigError: The API key's variable is not set, or a URL is unusable.
        ModelError: The local model cannot be loaded.
    """
    if not role.url:
        return [LocalEngine.load(role.model, trust_remote_code=role.trust_remote_code)]
    api_key = _api_key(role, author)
    streaming = _draft_tokens(role) is None
    return [
        HttpEngine(url, role.model, codec, api_key=api_key, streaming=streaming) for url in role.url
    ]


def _draft_tokens(role: ModelConfig) -> int | None:
    """Tokens of a fixed draft; None where the model streams."""
    return role.draft_tokens if isinstance(role, RoleConfig) else None


def _api_key(role: ModelConfig, author: Author) -> str | None:
    if role.api_key_env is None:
        return None
    api_key = os.environ.get(role.api_key_env)
    if not api_key:
        option = f"{author}.api_key_env" if isinstance(role, RoleConfig) else "api_key_env"
        raise ConfigError(
            f"{option}: the environment variable {role.api_key_env} is not set; "
            "export it, or leave the option out for a server without keys"
        )
    return api_key


def replica_names(role: ModelConfig) -> Sequence[str]:
    """What to call the replicas of a role in messages."""
    return tuple(map(shown_url, role.url)) or (f"{role.model} in this process",)


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """What a table is made of; loaded outside the event loop, so that Ctrl-C ends it at once.

    Attributes:
        renderers: Chat formats, by role.
        replicas: The engines of each role that writes, none of them reached yet.
        predictors: Each role's boundary predictor, where two write in turns.
    """

    renderers: dict[Author, Renderer]
    replicas: dict[Author, list[Engine]]
    predictors: dict[Author, BoundaryPredictor]


def load_models(config: Options, renderers: dict[Author, Renderer]) -> LoadedModels:
    """Load models that run in this process, and predictors.

    Raises:
        InputError: Options or models that cannot be used.
    """
    predictors: dict[Author, BoundaryPredictor] = {}
    if isinstance(config, SynthesisOptions) and config.strategy == "tessy":
        predictors = _load_predictors(config)
    replicas = {
        author: make_replicas(model, author, renderers[author].codec)
        for author, model in models(config).items()
    }
    return LoadedModels(renderers, replicas, predictors)


def _load_predictors(config: SynthesisOptions) -> dict[Author, BoundaryPredictor]:
    named = {author: (role.predictor, role.window) for author, role in roles(config).items()}
    made = {
        (spec, window): load_predictor(spec, config.lexicon, window)
        for spec, window in dict.fromkeys(named.values())
    }
    found = {author: made[wanted] for author, wanted in named.items()}
    for author, predictor in found.items():
        if not isinstance(predictor, TokenClassifierPredictor):
            continue
        if predictor.author == other(author):
            log.warning(
                "%s.predictor: %s was trained on the %s's words; were the two swapped?",
                author,
                predictor.name,
                predictor.author,
            )
    return found


@asynccontextmanager
async def open_resources(
    config: Options,
    parts: LoadedModels,
    on_wait: OnWait,
    check: Callable[[], None] = lambda: None,
) -> AsyncGenerator[SynthesisResources, None]:
    """Reach the servers, and close everything in the end.

    Args:
        config: The run's options.
        parts: What was loaded; taken over.
        on_wait: Told when every server of a role is out of reach, and None when it goes on.
        check: Called while waiting for servers; may raise to leave.

    Raises:
        EngineError: A role has no server that works.
    """
    async with AsyncExitStack() as stack:
        for predictor in {id(p): p for p in parts.predictors.values()}.values():
            stack.push_async_callback(predictor.aclose)
        pools: dict[Author, ReplicaPool] = {}
        listeners: list[OnMove] = []
        for author, model in models(config).items():
            pool = ReplicaPool(
                parts.replicas[author],
                replica_names(model),
                role=author,
                check=check,
                patience_seconds=config.server_patience_seconds,
                on_wait=on_wait,
                on_move=partial(_tell, listeners, author),
            )
            pools[author] = await stack.enter_async_context(pool)
        infos = {author: await pool.probe() for author, pool in pools.items()}
        backends = {
            author: _backend(model, parts.renderers[author], pools[author], infos[author])
            for author, model in models(config).items()
        }
        yield SynthesisResources(_context(config, backends, parts), infos, pools, listeners)


def _tell(listeners: Sequence[OnMove], author: Author, key: str, name: str) -> None:
    for listener in listeners:
        listener(key, author, name)


def _context(
    config: Options, backends: dict[Author, RoleBackend], parts: LoadedModels
) -> SynthesisContext:
    context = SynthesisContext(
        backends=backends,
        strategy="sample",
        answering="student",
        thinking_tokens=config.thinking_tokens,
        answer_tokens=config.answer_tokens,
        seed=config.seed,
        keep_ids=not config.no_ids,
        predictors=parts.predictors,
    )
    if isinstance(config, SampleConfig):
        return replace(context, answering=config.author, home=config.author)
    return replace(
        context,
        strategy=config.strategy,
        answering=answering_model(config),
        renderer=parts.renderers["student"],
        cut=config.cut,
        candidates=config.candidates,
        score_by=config.score_by,
    )


def _backend(
    role: ModelConfig, renderer: Renderer, engine: Engine, info: EngineInfo
) -> RoleBackend:
    known = [tokens for tokens in (role.context_tokens, info.context_tokens) if tokens is not None]
    # Where nothing streams, a span is drafted blindly: the paper's k wastes less than a long one.
    longest = REQUEST_TOKENS if info.streaming else PAPER_DRAFT_TOKENS
    return RoleBackend(
        renderer=renderer,
        engine=engine,
        sampling=Sampling(**role.sampling.model_dump()),
        request_tokens=_draft_tokens(role) or longest,
        context_tokens=min(known) if known else None,
        native_ids=info.mode != "text",
    )
