"""The bugs that are planted: in the judgement of the whole model."""

from tests.planted.bugs import Bug

REFERENCE, NETS = "fusekit/validation/reference.py", ("test_reference", "test_promise", "test_validate")

JUDGEMENT = (
    Bug("answers are not kept", REFERENCE, "self._kept[key] = answer", "pass", NETS),
    Bug("no bound on what is kept", REFERENCE, "self._room -= size", "pass", NETS),
    Bug("a run in the state another left", REFERENCE, "module if _leaves_no_trace(module) else", "module or", NETS),
    Bug("a run overwrites the inputs", REFERENCE, "inputs.cloned().call(fresh)", "inputs.call(fresh)", NETS),
    Bug(
        "the wide range taken for the given inputs",
        "fusekit/validation/probes.py",
        "return self.name == WIDE_RANGE, *(",
        "return 0, *(",
        NETS,
    ),
    Bug(
        "each file judged by a reference of its own",
        "fusekit/onnx_export/write_file.py",
        "return judge(self.reference, ",
        "return judge(Reference(self.reference.model, inputs), ",
        NETS,
    ),
    Bug(
        "each round of the race judged by a reference of its own",
        "fusekit/optimizing/promise_module.py",
        "options.without(gone)\n        result, pipeline, reason = judged(model, reference, options)",
        "options.without(gone)\n        result, pipeline, reason = judged(model, Reference(model, inputs), options)",
        NETS,
    ),
)
