"""What to do next, for mistakes in commands and options that Typer finds before any code of ours runs."""

import re

_OUTPUT = "the file to write is the second argument: fusekit export SOURCE OUT.onnx --input 1x3x224x224"
_STATIC = "all sizes vary that the model allows; --static fixes them"
_COMMANDS = {  # of other tools
    **dict.fromkeys(("convert", "to-onnx", "to_onnx"), "`fusekit export SOURCE OUT.onnx` makes an ONNX file"),
    **dict.fromkeys(("simplify", "fold", "fuse", "run"), "`fusekit optimize SOURCE OUT` makes a faster model"),
    "help": "`fusekit --help` lists the commands",
}
_OPTIONS = {
    **dict.fromkeys(("-o", "--output", "--out"), _OUTPUT),
    **dict.fromkeys(("--shape", "--shapes", "--input-shape", "--input_shape"), "expected --input 1x3x224x224"),
    **dict.fromkeys(("--dynamic", "--dynamic-axes", "--dynamic_axes"), _STATIC),
    **dict.fromkeys(("--checkpoint", "--ckpt", "--state-dict", "--model"), "weights are given by --weights FILE"),
}


def helped(told: str) -> str:
    """Typer's message, with what to do next if it does not say so itself."""
    told = told.replace("Value error, ", "")
    if found := re.match(r"No such command '(.*?)'\.(?! Did)", told):
        name = found[1]
        hint = "`fusekit --help` lists the commands"
        if re.search(r"[.:/]", name):
            hint = f"A command comes first, such as `fusekit inspect {name}`"
        return f"{told} {_COMMANDS.get(name, hint)}"
    if found := re.match(r"No such option: (\S+)", told):
        if found[1] in _OPTIONS:
            return f"{found[0]}; {_OPTIONS[found[1]]}"
        return told if "Possible" in told or "Did you mean" in told else f"{told}; --help lists the options"
    if found := re.match(r"Missing argument '(.*?)'", told):
        return f"{told} --help shows the usage" if found[1] == "SOURCE" else f"{told} It comes after SOURCE"
    if told.startswith("Got unexpected extra argument"):
        return f"{told}; sizes are joined by x (--input 1x3x224x224), weights are given by --weights FILE"
    return told
