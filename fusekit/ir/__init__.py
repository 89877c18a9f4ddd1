"""One graph: nodes read as algebra, algebra written as nodes, the graph emitted as modules.

Knows torch.fx and what operators mean. Must not know where a graph came from, what is worth rewriting, or who runs it.
"""
