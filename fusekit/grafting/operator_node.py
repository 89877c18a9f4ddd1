"""One node of an ONNX file, looked at: its operator, version, inputs and attributes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
from onnx import NodeProto

from fusekit.grafting.model_file import is_standard


@dataclass(frozen=True, eq=False)
class OperatorNode:
    """A node (`proto`) and the version of the standard operators of its file (`opset`)."""

    proto: NodeProto
    opset: int

    @property
    def operator(self) -> str:
        """Its name; "" for operators of other domains, which mean what others say."""
        return self.proto.op_type if is_standard(self.proto.domain) else ""

    @property
    def full_name(self) -> str:
        """Its name; for operators of other domains, with the domain: "com.example::Scale"."""
        return self.operator or f"{self.proto.domain}::{self.proto.op_type}"

    @cached_property
    def inputs(self) -> list[str]:
        """The names of its inputs; "" where one is left out, none for those left out at the end."""
        names = list(self.proto.input)
        while names and not names[-1]:
            names.pop()
        return names

    def input(self, index: int) -> str:
        """The name of an input; "" if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def only_output(self) -> str:
        """The name of its output; "" if it has more than one, or one that is not the first."""
        names = [name for name in self.proto.output if name]
        return names[0] if len(names) == 1 and self.proto.output[0] == names[0] else ""

    @cached_property
    def _attributes(self) -> dict[str, Any]:
        return {each.name: onnx.helper.get_attribute_value(each) for each in self.proto.attribute}

    def has(self, name: str) -> bool:
        """Whether an attribute is given."""
        return name in self._attributes

    def number(self, name: str, default: Any) -> Any:
        """An attribute that is one number."""
        return self._attributes.get(name, default)

    def numbers(self, name: str, default: list[int]) -> list[int]:
        """An attribute that is a list of integers."""
        return list(self._attributes.get(name, default))

    def word(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        value = self._attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
