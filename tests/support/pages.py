"""Reports that pages are made of: as many blocks as one likes, with names as one likes."""

from fusekit.report import Box, Drawing, Event, Outcome, Report, Totals

LAW = "c1(x) + c2(x) = (c1 + c2)(x)"


def blocks(count: int, branches: int = 2, name: str = "stages", skip: int = 0) -> Report:
    """Blocks of convolutions with batch norms, added and activated; each becomes one convolution. `skip`: every third
    activation also reads that of so many blocks earlier."""
    before, after, events = [Box("x", "input")], [Box("x", "input")], []
    for k in range(count):
        path, source, conv = f"{name}.{k}", f"r{k - 1}" if k else "x", {"window": (3, 3), "stride": (1, 1)}
        ids = [f"{kind}{k}_{b}" for b in range(branches) for kind in "cn"]
        for b in range(branches):
            c, n = ids[2 * b : 2 * b + 2]
            before.append(Box(c, "conv2d", f"{path}.{b}.conv", (source,), (c,), channels=(8, 8), **conv))  # type: ignore[arg-type]
            before.append(Box(n, "batch_norm", f"{path}.{b}.norm", (c,), (n,)))
        before.append(Box(f"a{k}", "add", f"{path}.add", tuple(ids[1::2]), (f"a{k}",)))
        far = (f"r{k - skip}",) if skip and k >= skip and k % 3 == 0 else ()
        before.append(Box(f"r{k}", "relu", f"{path}.act", (f"a{k}", *far), (f"r{k}",)))
        after.append(Box(f"m{k}", "conv2d", path, (source,), (*ids, f"a{k}"), channels=(8, 8), **conv))  # type: ignore[arg-type]
        after.append(Box(f"r{k}", "relu", f"{path}.act", (f"m{k}", *far), (f"r{k}",)))
        words = {"region": (*ids, f"a{k}"), "change": (f"{branches} branches", "1 convolution")}
        events.append(Event("merge-sum", f"{path}.0 + {path}.1", Outcome.APPLIED, 8.0, 4.0, 1e-16, **words))  # type: ignore[arg-type]
        told = f"not clearly faster in {name}"
        events.append(Event("use-winograd", path, Outcome.REFUSED, float(k), 3.0, None, told, region=(f"a{k}",)))
    sizes = (Totals(len(before) - 1, 1000, 4000, 400), Totals(len(after) - 1, 400, 1000, 160))
    drawings = (Drawing(tuple(before)), Drawing(tuple(after)))
    return Report(
        tuple(events), *sizes, "symbolic trace", times=(2.0, 0.5), drawings=drawings, laws=(("merge-sum", LAW),)
    )
