"""The conformance suite: which checks a method passes, in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from benchmark.base.errors import UserError
from benchmark.conformance.copies import frozen_parts_rest
from benchmark.conformance.declared import built_as_declared, declared, measured
from benchmark.conformance.degenerate import degenerate_batches
from benchmark.conformance.everywhere import trains
from benchmark.conformance.findings import ConformanceReport, Finding, find
from benchmark.conformance.further import images_are_its_own
from benchmark.conformance.gradients import (
    finite_losses,
    first_stage,
    gradients_where_they_belong,
)
from benchmark.conformance.images import FewImages, digit_images
from benchmark.conformance.lab import Lab, method_ref
from benchmark.conformance.layouts import steps_alike
from benchmark.conformance.maps import reads_what_it_names
from benchmark.conformance.movers import moved_by_who_claims_it
from benchmark.conformance.pairs import SMALL, Pair, image_size, table_pairs
from benchmark.conformance.training import (
    checkpoint_round_trip,
    finite_in_bf16,
    pack_equals_solo,
    resume_equals_undisturbed,
)
from benchmark.conformance.turns import entries_in_any_order
from benchmark.methods.catalog import method_info
from benchmark.run.identity import MethodRef

Say = Callable[[str], None]
Check = tuple[str, Callable[[], str]]

# Two full batches and an incomplete one make an epoch.
IMAGES, BATCH = 20, 8
PAIR_IMAGES = PAIR_BATCH = 4
QUICK_STOPS = (1, 4)


def check_method(
    name: str,
    pair: Pair | None = None,
    quick: bool = False,
    say: Say = lambda text: None,
) -> ConformanceReport:
    """Check one method, a plug-in too, at its default options.

    With ``pair`` on that pair alone; else closely on a small pair and, unless ``quick``, in a
    step of each stage on every pair of the CIFAR-100 table. ``say`` gets the report's lines as
    they are found. Raises UserError for an unknown method, or if it is undefined on ``pair``.
    """
    info = method_info(name)
    lab = lab_for(name, [pair] if pair else SMALL)
    head = ConformanceReport(name, info.version, info.summary, _described(lab), ())
    say(head.head())
    findings: list[Finding] = []
    checks = close_checks(lab, name, quick)
    if pair is None and not quick:
        checks += [(str(p), partial(_trains_on, p, name)) for p in table_pairs()]
    for check, action in checks:
        findings.append(find(check, action))
        say(findings[-1].line())
    report = ConformanceReport(name, info.version, info.summary, _described(lab), tuple(findings))
    say(report.foot())
    return report


def close_checks(lab: Lab, name: str, quick: bool) -> list[Check]:
    """Return the checks on the lab's pair, by name and in order."""
    info, ref = method_info(name), method_ref(name)
    stops = QUICK_STOPS if quick else None
    return [
        ("declaration", partial(declared, info)),
        ("built as declared", partial(built_as_declared, lab, info, ref)),
        ("finite losses", partial(finite_losses, lab, ref)),
        ("gradients", partial(gradients_where_they_belong, lab, ref)),
        ("first stage", partial(first_stage, lab, ref)),
        ("costs", partial(measured, info)),
        ("teacher's maps", partial(reads_what_it_names, lab, ref)),
        ("images", partial(images_are_its_own, lab, ref)),
        ("frozen parts", partial(frozen_parts_rest, lab, ref)),
        ("order of entries", partial(entries_in_any_order, lab, ref)),
        ("who moves what", partial(moved_by_who_claims_it, lab, ref)),
        ("pack = solo", partial(pack_equals_solo, lab, ref)),
        ("resume = undisturbed", partial(resume_equals_undisturbed, lab, ref, stops)),
        ("checkpoint round trip", partial(checkpoint_round_trip, lab, ref)),
        ("memory formats", partial(_in_both_formats, lab, ref)),
        ("bf16 autocast", partial(finite_in_bf16, lab, ref)),
        ("degenerate batches", partial(degenerate_batches, lab, ref)),
    ]


def lab_for(name: str, pairs: Sequence[Pair] = SMALL) -> Lab:
    """Return a lab on the first pair that the method is defined for."""
    ref = method_ref(name)
    for last, pair in enumerate(pairs, start=1 - len(pairs)):
        lab = Lab(pair, digit_images(IMAGES, image_size(pair), BATCH))
        try:
            lab.start(lab.run([ref]))
        except UserError:
            if last == 0:
                raise
            continue
        except Exception:  # the checks will say what is wrong
            return lab
        return lab
    raise AssertionError("no pair was given")


def _in_both_formats(lab: Lab, ref: MethodRef) -> str:
    return steps_alike(lab, Lab(lab.pair, lab.images, channels_last=True), lab.run([ref]))


def _trains_on(pair: Pair, name: str) -> str:
    lab = Lab(pair, digit_images(PAIR_IMAGES, image_size(pair), PAIR_BATCH))
    return trains(lab, [method_ref(name)])


def _described(lab: Lab) -> str:
    images: FewImages = lab.images
    _, height, width = images.image_shape
    count = len(images.images)
    return f"{lab.pair}, {count} digits of {height}x{width} in batches of {images.batch_size}"
