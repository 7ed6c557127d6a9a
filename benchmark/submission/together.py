"""`bench submit --cluster inline` in several processes that torchrun has started.

The first process submits as usual and sends each pack to the others, which only train. Imports no
torch before they do.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from benchmark.base.errors import UserError
from benchmark.base.log import reporting, say
from benchmark.run.pack_file import PackFile, read_pack
from benchmark.submission.task import checkpoint_seconds, stop_on_signal
from benchmark.train.place import Place, told

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def lead(packs: Sequence[PackFile], place: Place) -> int:
    """Train packs with the other processes of torchrun; return the exit code."""
    from benchmark.train.crew import Interrupted, PeerLostError
    from benchmark.train.join import join
    from benchmark.train.pack import Surroundings, train_pack
    from benchmark.train.report import default_reporter

    with stop_on_signal(*_SIGNALS) as asked:

        def stop() -> str | None:
            return asked.get("why")

        more = checkpoint_seconds()
        where = Surroundings(stop=stop, reporter=default_reporter, ended=frozenset(), **more)
        code = 0
        try:
            crew = join(place, stop)
        except Interrupted as reason:
            say(f"stopped: {reason}; submit again to continue")
            return 1
        try:
            for pack in packs:
                crew.told(pack.text())
                outcome = train_pack(pack, where, crew)
                code = max(code, outcome.exit_code)
                if asked or outcome.lost:
                    say("submit again to continue")
                    return 1
            crew.told("")
        except PeerLostError as loss:
            say(str(loss))
            return 1
        except UserError as error:  # the others wait for what will not come: all of them end
            say(str(error))
            return 1
        finally:
            crew.close()
    return code


def followed(nothing: bool = False) -> int | None:
    """Train what the first process of torchrun sends, and return the exit code.

    None in the first process itself, and in one alone; ``nothing``: the first one sends nothing.
    """
    place = told()
    if place is None or place.process == 0:
        return None
    if nothing:
        return 0
    with reporting():
        return _follow(place)


def _follow(place: Place) -> int:
    from benchmark.train.crew import Interrupted
    from benchmark.train.join import join
    from benchmark.train.pack import Surroundings, train_pack

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first one's, who tells the others
    with stop_on_signal(signal.SIGTERM) as asked:
        stop: Callable[[], str | None] = lambda: asked.get("why")  # noqa: E731
        try:
            crew = join(place, stop)
        except Interrupted:
            return 1
        except UserError as error:
            say(f"process {place.process}: {error}")
            return 2
        try:
            while text := crew.told(""):
                train_pack(read_pack(text, "the pack"), Surroundings(stop=stop), crew)
        except Interrupted:  # the first process has left
            return 1
        except UserError as error:
            say(f"process {place.process}: {error}")
            return 1
        finally:
            crew.close()
    return 0
