"""Hand many documents to Lucene at once.

A call from Python into Java costs as much as indexing a short sentence, and lets go of Python's lock, for
which it then waits while other threads work. So the loop over documents is Java's: one that is made of method
handles here, since there is no Java code of our own.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mretrieve.index.jvm import java_class

_HANDLE = "Ljava/lang/invoke/MethodHandle;"
_TYPE = "Ljava/lang/invoke/MethodType;"
_OBJECT = "Ljava/lang/Object;"

Documents = Sequence[Sequence[str]]
"""(n_documents, n_fields) texts."""


def batch_adder(writer: Any, fields: Sequence[Any], document: Any) -> Callable[[Documents], None]:
    """What adds documents, each given by the texts of its fields; to be called under `JAVA_LOCK`.

    Args:
        writer: an `IndexWriter`.
        fields: of `document`, whose texts are set anew for each.
        document: has these fields.

    Returns:
        A function for one thread at a time, without the lock. It raises what Java does, and
        UnicodeEncodeError at half a character.
    """
    from jnius import find_javaclass

    java_class(  # of its own, since it is used outside of the lock: what is made below is of this class
        "java/lang/invoke/MethodHandle",
        methods={
            "asType": f"({_TYPE}){_HANDLE}",
            "asFixedArity": f"(){_HANDLE}",
            "asSpreader": f"(Ljava/lang/Class;I){_HANDLE}",
            "bindTo": f"({_OBJECT}){_HANDLE}",
            "invokeWithArguments": f"([{_OBJECT}){_OBJECT}",
        },
    )
    handles, any_object = _method_handles(), find_javaclass("java.lang.Object")
    add = _find("org.apache.lucene.index.IndexWriter", "addDocument", "(Ljava/lang/Iterable;)J")
    add = add.bindTo(writer).bindTo(document).asType(_type("()V"))
    body = handles.dropArguments(add, 0, [any_object] * len(fields))
    for number, field in reversed(list(enumerate(fields))):
        set_text = _find("org.apache.lucene.document.Field", "setStringValue", "(Ljava/lang/String;)V")
        set_text = set_text.bindTo(field).asType(_type(f"({_OBJECT})V"))
        body = handles.foldArguments(body, handles.dropArguments(set_text, 0, [any_object] * number))
    body = body.asSpreader(find_javaclass("[Ljava.lang.Object;"), len(fields))
    loop = handles.iteratedLoop(None, None, body.asType(_type(f"({_OBJECT})V")))
    as_list = _find("java.util.Arrays", "asList", f"([{_OBJECT})Ljava/util/List;", static=True)
    as_list = as_list.asFixedArity().asType(_type(f"([{_OBJECT})Ljava/lang/Iterable;"))
    add_all = handles.filterArguments(loop, 0, [as_list])

    def add_documents(documents: Documents) -> None:
        add_all.invokeWithArguments((documents,), pass_by_reference=False)

    return add_documents


def _find(owner: str, name: str, signature: str, *, static: bool = False) -> Any:
    """A handle of a public method."""
    from jnius import find_javaclass

    lookup = _method_handles().publicLookup()
    find = lookup.findStatic if static else lookup.findVirtual
    return find(find_javaclass(owner), name, _type(signature))


def _type(signature: str) -> Any:
    java = java_class(
        "java/lang/invoke/MethodType",
        static_methods={"fromMethodDescriptorString": f"(Ljava/lang/String;Ljava/lang/ClassLoader;){_TYPE}"},
    )
    return java.fromMethodDescriptorString(signature, None)


def _method_handles() -> Any:
    find = f"(Ljava/lang/Class;Ljava/lang/String;{_TYPE}){_HANDLE}"
    java_class("java/lang/invoke/MethodHandles$Lookup", methods={"findStatic": find, "findVirtual": find})
    return java_class(
        "java/lang/invoke/MethodHandles",
        static_methods={
            "publicLookup": "()Ljava/lang/invoke/MethodHandles$Lookup;",
            "dropArguments": f"({_HANDLE}I[Ljava/lang/Class;){_HANDLE}",
            "filterArguments": f"({_HANDLE}I[{_HANDLE}){_HANDLE}",
            "foldArguments": f"({_HANDLE}{_HANDLE}){_HANDLE}",
            "iteratedLoop": f"({_HANDLE}{_HANDLE}{_HANDLE}){_HANDLE}",
        },
    )
