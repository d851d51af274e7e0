"""From a role's options to a model at the table: format, engine, boundary predictor."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from tessy.boundary.base import BoundaryPredictor
from tessy.boundary.load import load_predictor
from tessy.config import RoleConfig, SynthesisOptions
from tessy.engines.base import Engine, EngineInfo, Sampling
from tessy.engines.http import HttpEngine
from tessy.engines.http_server import server_root
from tessy.engines.local import LocalEngine
from tessy.engines.pool import Pool
from tessy.errors import ConfigError
from tessy.records import Author
from tessy.renderers import Renderer, load_renderer
from tessy.synthesis.room import PAPER_DRAFT_TOKENS, REQUEST_TOKENS, Room, Seat
from tessy.tokens import Codec

OnWait = Callable[[str | None], None]


@dataclass(frozen=True, slots=True)
class Table:
    """The room of a run, and what its servers said of themselves.

    Attributes:
        room: What all samples share.
        infos: What each role's probe found.
        pools: Each role's replicas.
    """

    room: Room
    infos: dict[Author, EngineInfo]
    pools: dict[Author, Pool]
    _listeners: list[Callable[..., None]] = field(default_factory=list)

    def follow(self, listener: Callable[..., None]) -> None:
        """Tell ``listener(key, replica_<role>=name)`` of every sample that changes its replica."""
        self._listeners.append(listener)


def load_renderers(config: SynthesisOptions) -> dict[Author, Renderer]:
    """Both models' chat formats.

    Raises:
        ModelError: A tokenizer or template that cannot be used.
    """
    return {author: load_role_renderer(role) for author, role in roles(config).items()}


def formats(renderers: Mapping[Author, Renderer]) -> dict[str, str]:
    """A digest of each role's tokenizer and chat template: what ids and prompts depend on."""
    return {
        f"{author}.format": hashlib.sha256(
            f"{renderer.codec.digest}\n{renderer.template.source}".encode()
        ).hexdigest()
        for author, renderer in renderers.items()
    }


def check_servers(config: SynthesisOptions) -> None:
    """Find what is wrong with URLs and keys before anything is loaded.

    Raises:
        ConfigError: A URL that is none, or the variable of an API key is not set.
    """
    for author, role in roles(config).items():
        for url in role.url:
            server_root(url)
        if role.url:
            _api_key(role, author)


def load_role_renderer(role: RoleConfig) -> Renderer:
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


def make_replicas(role: RoleConfig, author: Author, codec: Codec) -> list[Engine]:
    """One engine per server of a role; without servers, the model in this process.

    Raises:
        ConfigError: The API key's variable is not set, or a URL is unusable.
        ModelError: The local model cannot be loaded.
    """
    if not role.url:
        return [LocalEngine.load(role.model, trust_remote_code=role.trust_remote_code)]
    api_key = _api_key(role, author)
    return [
        HttpEngine(url, role.model, codec, api_key=api_key, streaming=role.draft_tokens is None)
        for url in role.url
    ]


def _api_key(role: RoleConfig, author: Author) -> str | None:
    if role.api_key_env is None:
        return None
    api_key = os.environ.get(role.api_key_env)
    if not api_key:
        raise ConfigError(
            f"{author}.api_key_env: the environment variable {role.api_key_env} is not set; "
            "export it, or leave the option out for a server without keys"
        )
    return api_key


def replica_names(role: RoleConfig) -> Sequence[str]:
    """What to call the replicas of a role in messages."""
    return role.url or (f"{role.model} in this process",)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a table is made of; loaded outside the event loop, so that Ctrl-C ends it at once.

    Attributes:
        renderers: Each role's chat format.
        replicas: Each role's engines, none of them reached yet.
        predictors: Each role's boundary predictor.
    """

    renderers: dict[Author, Renderer]
    replicas: dict[Author, list[Engine]]
    predictors: dict[Author, BoundaryPredictor]


def load_parts(config: SynthesisOptions, renderers: dict[Author, Renderer]) -> Parts:
    """Load models that run in this process, and predictors.

    Raises:
        InputError: Options or models that cannot be used.
    """
    made: dict[str, BoundaryPredictor] = {}
    for role in roles(config).values():
        if role.predictor not in made:
            made[role.predictor] = load_predictor(role.predictor, config.lexicon)
    replicas = {
        author: make_replicas(role, author, renderers[author].codec)
        for author, role in roles(config).items()
    }
    predictors = {author: made[role.predictor] for author, role in roles(config).items()}
    return Parts(renderers, replicas, predictors)


@asynccontextmanager
async def set_table(
    config: SynthesisOptions,
    parts: Parts,
    on_wait: OnWait,
    check: Callable[[], None] = lambda: None,
) -> AsyncGenerator[Table, None]:
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
        pools: dict[Author, Pool] = {}
        listeners: list[Callable[..., None]] = []
        for author, role in roles(config).items():
            pool = Pool(
                parts.replicas[author],
                replica_names(role),
                role=author,
                check=check,
                patience_seconds=config.server_patience_seconds,
                on_wait=on_wait,
                on_move=partial(_tell, listeners, author),
            )
            pools[author] = await stack.enter_async_context(pool)
        infos = {author: await pool.probe() for author, pool in pools.items()}
        seats = {
            author: _seat(
                role,
                parts.renderers[author],
                pools[author],
                infos[author],
                parts.predictors[author],
            )
            for author, role in roles(config).items()
        }
        yield Table(
            room=Room(
                seats=seats,
                cut=config.cut,
                thinking_tokens=config.thinking_tokens,
                answer_tokens=config.answer_tokens,
                seed=config.seed,
                keep_ids=not config.no_ids,
            ),
            infos=infos,
            pools=pools,
            _listeners=listeners,
        )


def _tell(listeners: Sequence[Callable[..., None]], author: Author, key: str, name: str) -> None:
    for listener in listeners:
        listener(key, **{f"replica_{author}": name})


def _seat(
    role: RoleConfig,
    renderer: Renderer,
    engine: Engine,
    info: EngineInfo,
    predictor: BoundaryPredictor,
) -> Seat:
    known = [tokens for tokens in (role.context_tokens, info.context_tokens) if tokens is not None]
    # Where nothing streams, a span is drafted blindly: the paper's k wastes less than a long one.
    longest = REQUEST_TOKENS if info.streaming else PAPER_DRAFT_TOKENS
    return Seat(
        renderer=renderer,
        engine=engine,
        predictor=predictor,
        sampling=Sampling(**role.sampling.model_dump()),
        request_tokens=role.draft_tokens or longest,
        context_tokens=min(known) if known else None,
        native_ids=info.mode != "text",
    )
