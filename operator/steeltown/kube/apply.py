"""Carries out the actions of plans, one request each, and says in a value what came of it.

Server-side apply with complete intents and one field manager makes a write idempotent: after a crash or an
unknown outcome the same plan is applied again and nothing is done twice. Everything that must not hit a
successor of the object it was meant for carries a precondition: the uid always, and for a status that
records a decision the resourceVersion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from ..core.plan import Action, Annotate, Apply, Create, Delete, Obj, Restore
from ..core.program import SHARED
from .client import APPLY_PATCH, MERGE_PATCH, Client
from .errors import AlreadyExists, ApiError, Conflict, NotFound, Refused, Transient
from .resources import WATCHED, Resources

FIELD_MANAGER: Final = "steeltown"
STATUS_FIELD_MANAGER: Final = "steeltown-status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one action.

    done: the world is as the action wants it; `obj` is the object as the server now holds it, None = it is gone.
    stale: the object that the action was for is gone or another one has its name.
    conflict: it has changed since the snapshot. refused: `message` says who refused and why.
    transient: try again, not before `retry_after` seconds; the write may have happened or not.
    """

    result: Literal["done", "stale", "conflict", "refused", "transient"]
    obj: Obj | None = None
    message: str = ""
    retry_after: float | None = None


class Applier:
    """Executes actions against the API server."""

    def __init__(self, client: Client, *, resources: Resources = WATCHED) -> None:
        self._client = client
        self._resources = resources

    async def run(self, action: Action) -> Answer:
        try:
            match action:
                case Apply(body, force):
                    return await self._apply(body, force=force)
                case Restore():
                    return await self._restore(action)
                case Create(body):
                    return await self._create(body)
                case Delete():
                    return await self._delete(action)
                case Annotate():
                    return await self._annotate(action)
        except ApiError as error:
            return _failure(error)

    async def status(self, root: Obj, status: Obj, *, locked: bool) -> Answer:
        """Replaces the status that the operator owns, only over the resourceVersion of `root`.

        Also when the plan does not ask for it (`locked`): on the status of a custom resource the API server
        ignores a uid, so nothing else keeps a status off a successor of the same name. What `locked` decides
        is which version that is: the one that was decided upon, or the newest that is known.
        """
        metadata = root["metadata"]
        identity = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")}
        resource = self._resources[root["kind"]]
        try:
            return await self._patch(
                resource.item(metadata["namespace"], metadata["name"], subresource="status"),
                {"apiVersion": root["apiVersion"], "kind": root["kind"], "metadata": identity, "status": status},
                manager=STATUS_FIELD_MANAGER,
            )
        except ApiError as error:
            return _failure(error)

    async def _apply(self, body: Obj, *, force: bool) -> Answer:
        try:
            answer = await self._patch(self._item(body), body, manager=FIELD_MANAGER, force=force)
        except Conflict as error:
            if force:
                raise
            # Another manager owns what the intent wants to set, so the object is not one of ours.
            return Answer(result="refused", message=f"{_taken(body)} ({error.message})")
        if force or answer.obj is None or not _is_foreign(answer.obj):
            return answer
        # No field was in dispute, so the server has merged the two. Applying nothing takes every trace back.
        traceless = {key: body["metadata"][key] for key in ("name", "namespace")}
        nothing = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": traceless}
        await self._patch(self._item(body), nothing, manager=FIELD_MANAGER)
        return Answer(result="refused", message=_taken(body))

    async def _patch(self, path: str, body: Obj, *, manager: str, force: bool = True) -> Answer:
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        obj = await self._client.request("PATCH", path, query=query, body=body, content_type=APPLY_PATCH)
        return Answer(result="done", obj=obj)

    async def _create(self, body: Obj) -> Answer:
        collection = self._resources[body["kind"]].collection(body["metadata"]["namespace"])
        try:
            obj = await self._client.request("POST", collection, query={"fieldManager": FIELD_MANAGER}, body=body)
        except AlreadyExists as error:
            return await self._existing(collection, body, error)
        return Answer(result="done", obj=obj)

    async def _existing(self, collection: str, body: Obj, taken: AlreadyExists) -> Answer:
        """An object of that name: ours from before a crash, which is success, or somebody else's.

        Read by a list with a field selector, so that the operator needs no permission to get.
        """
        name = body["metadata"]["name"]
        answer = await self._client.request("GET", collection, query={"fieldSelector": f"metadata.name={name}"})
        for item in answer.get("items") or ():
            obj = {"apiVersion": body["apiVersion"], "kind": body["kind"], **item}
            if _controller(obj) == _controller(body):
                return Answer(result="done", obj=obj)
            return Answer(result="refused", message=_taken(body))
        return Answer(result="transient", message=taken.message)

    async def _delete(self, action: Delete) -> Answer:
        path = self._resources[action.kind].item(action.namespace, action.name)
        options = {"propagationPolicy": "Background", "preconditions": {"uid": action.uid}}
        try:
            answer = await self._client.request("DELETE", path, body=options)
        except (NotFound, Conflict) as error:
            return Answer(result="stale", message=error.message)
        return Answer(result="done", obj=answer if _lingers(answer, action.kind) else None)

    async def _restore(self, action: Restore) -> Answer:
        """A merge patch replaces lists as a whole, and takes away what is null (RFC 7386)."""
        pod = dict.fromkeys((*SHARED, "initContainers", "volumes")) | action.body["spec"]["template"]["spec"]
        body = {"metadata": {"uid": action.uid}, "spec": {"template": {"spec": pod}}}
        return await self._merge(self._item(action.body), body)

    async def _annotate(self, action: Annotate) -> Answer:
        path = self._resources[action.kind].item(action.namespace, action.name)
        return await self._merge(path, {"metadata": {"uid": action.uid, "annotations": dict(action.annotations)}})

    async def _merge(self, path: str, body: Obj) -> Answer:
        try:
            obj = await self._client.request(
                "PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=body, content_type=MERGE_PATCH
            )
        except (NotFound, Conflict) as error:
            # 409 is a race with another writer of the same object, which is still there.
            return Answer(result="conflict" if error.status == 409 else "stale", message=error.message)
        return Answer(result="done", obj=obj)

    def _item(self, body: Obj) -> str:
        metadata = body["metadata"]
        return self._resources[body["kind"]].item(metadata["namespace"], metadata["name"])


def _controller(obj: Obj) -> Any:
    references = obj["metadata"].get("ownerReferences") or ()
    return next((reference["uid"] for reference in references if reference.get("controller")), None)


def _taken(body: Obj) -> str:
    name = f"{body['kind']} {body['metadata']['name']}"
    return f"{name} already exists and is not controlled by this object: delete or rename it"


def _is_foreign(obj: Obj) -> bool:
    """Whether somebody else has set its spec: what we have just created has no other manager."""
    entries = obj["metadata"].get("managedFields") or ()
    return any(
        entry.get("manager") != FIELD_MANAGER
        and not entry.get("subresource")
        and "f:spec" in (entry.get("fieldsV1") or {})
        for entry in entries
    )


def _lingers(answer: Obj, kind: str) -> bool:
    """Whether the object outlives its DELETE for now.

    What is gone at once is answered by a Status or by the object as it last was, depending on the kind.
    """
    metadata = answer.get("metadata") or {}
    waits = bool(metadata.get("finalizers")) or (metadata.get("deletionGracePeriodSeconds") or 0) > 0
    return answer.get("kind") == kind and "deletionTimestamp" in metadata and waits


def _failure(error: ApiError) -> Answer:
    match error:
        case NotFound():
            return Answer(result="stale", message=error.message)
        case Conflict():
            return Answer(result="conflict", message=error.message)
        case Refused():
            return Answer(result="refused", message=error.message)
        case Transient():
            return Answer(result="transient", message=error.message, retry_after=error.retry_after)
        case _:
            return Answer(result="transient", message=error.message)
