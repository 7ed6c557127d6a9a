"""A class name means one thing in the whole package."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import benchmark

# A method's or a network's own parts, which no other file imports by these names: each paper has
# its embedding, and each family of networks its block.
_OWN_PARTS = {
    "BasicBlock": {"models/resnet_bottleneck.py", "models/resnet_cifar.py"},
    "Embedding": {"methods/cc.py", "methods/crd.py", "methods/semckd.py"},
    "Fusion": {"methods/ffl.py", "methods/reviewkd.py"},
    "Projector": {"methods/projector.py", "methods/simkd.py"},
}


def test_no_class_name_stands_twice() -> None:
    root = Path(benchmark.__file__).parent
    places = defaultdict(list)
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path.relative_to(root).as_posix())
    # Each method names its options so; what a file of methods/ must define is found by name.
    options = places.pop("Options")
    assert all(place.startswith("methods/") for place in options)
    assert len(options) == len(set(options))
    twice = {name: set(found) for name, found in places.items() if len(found) > 1}
    assert twice == _OWN_PARTS
