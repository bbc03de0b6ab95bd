"""A site's end as Flower runs it: an app that answers the director's messages, in any process.

What a site keeps between two messages of a run is in Flower's context, which never leaves it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from anomaly_lib.datasets import Category
from anomaly_lib.detectors import Detector, Gaussian, Images, PatchCore, PatchSVDD
from anomaly_lib.detectors.frozen import FrozenDetector
from anomaly_lib.detectors.sources import checked_batches
from anomaly_lib.errors import AnomalyError, DataError, one_line
from anomaly_lib.evaluation.predictions import Scores
from anomaly_lib.federated.ends import Site
from anomaly_lib.federated.gaussian import GaussianSite
from anomaly_lib.federated.messages import array_record, tensors_of
from anomaly_lib.federated.patch_svdd import PatchSVDDSite, moments_of
from anomaly_lib.federated.patchcore import PatchCoreSite
from anomaly_lib.federated.shard_choice import ShardChoice
from anomaly_lib.federated.tasks import Task
from anomaly_lib.federated.tested import TestedImages

ARRAYS, ASKED, ANSWER = "arrays", "asked", "answer"
"""The records of a message: tensors, what is asked, what is said."""

# Records that stay at the site.
_SHARED, _MOMENTS = "shared", "moments"
# Bytes that no director's message has.
_MOST = 2**36

Handler = Callable[["SiteWork", Mapping[str, Any], dict[str, torch.Tensor]], RecordDict]


class SiteWork:
    """What a site does for one task."""

    def __init__(self, task: Task, shard: ShardChoice, device: str) -> None:
        self._task, self._device = task, device
        self._category = shard.category(task.category)
        self._site: Site[Any] | None = None

    def introduction(self) -> dict[str, Any]:
        """Return what the director has to know of the site."""
        detector = self._task.detector(self._device)
        images = self._train_images(detector)
        if not len(images):
            raise DataError(f"no images of {self._category.name} to learn from")
        first = next(iter(checked_batches(images)))
        fingerprint = detector.network.fingerprint if isinstance(detector, FrozenDetector) else ""
        return {
            "images": len(images),
            "tested": len(self._category.test),
            "height": first.shape[2],
            "width": first.shape[3],
            "fingerprint": fingerprint,
        }

    def site(self) -> Site[Any]:
        """Return the method's end."""
        if self._site is None:
            self._site = self._new_site()
        return self._site

    def svdd(self) -> PatchSVDDSite:
        """Return it, of Patch SVDD."""
        site = self.site()
        if not isinstance(site, PatchSVDDSite):
            raise DataError(f"{self._task.method} is not trained in rounds")
        return site

    def scores(self, detector: Detector) -> tuple[Scores, Category]:
        """Return the scores of the site's test images, and what they are of."""
        images = self._category.test_images(detector.transform, self._task.batch_size)
        return detector.score(images), self._category

    def _new_site(self) -> Site[Any]:
        detector, turn, shape = self._task.detector(self._device), self._task.turn, self._task.shape
        if turn is None or shape is None:
            raise DataError("the director has not said where this site's images are among all")
        images = self._train_images(detector)
        if len(images) != turn.images:
            raise DataError(f"this site has {len(images)} images, and the director knows {turn.images}")
        detector.input_shape_ = shape
        if isinstance(detector, Gaussian):
            return GaussianSite(detector, images, turn)
        if isinstance(detector, PatchCore):
            return PatchCoreSite(detector, images, turn)
        assert isinstance(detector, PatchSVDD)
        return PatchSVDDSite(detector, images, turn, shape)

    def _train_images(self, detector: Detector) -> Images:
        return self._category.train_images(detector.transform, self._task.batch_size)


class SiteApp:
    """The site's end of every run that a process answers for."""

    def __init__(self) -> None:
        # By run and site; a site works on one task at a time.
        self._work: dict[tuple[int, int], tuple[str, SiteWork]] = {}

    def app(self) -> ClientApp:
        """Return it for Flower."""
        app = ClientApp()
        handlers: dict[str, Callable[[Message, Context], RecordDict]] = {
            "introduction": self._introduction,
            "pixels": self._pixels,
            "shared": self._shared,
            "round": self._round,
            "share": self._share,
            "look": self._look,
            "model": self._model,
        }
        for action, handler in handlers.items():
            app.query(action)(_answering(handler))
        return app

    def _introduction(self, message: Message, context: Context) -> RecordDict:
        said = self._of(message, context).introduction()
        name = str(context.node_config.get("name", context.node_id))
        return RecordDict({ANSWER: ConfigRecord({"name": name, **said})})

    def _pixels(self, message: Message, context: Context) -> RecordDict:
        return _reply(self._of(message, context).svdd().pixel_sums())

    def _round(self, message: Message, context: Context) -> RecordDict:
        asked, state = _asked(message), _tensors(message)
        local = asked["treatment"] == "continue_local"
        moments = moments_of(state)
        if local and _MOMENTS in context.state:
            moments = tensors_of(_arrays(context.state, _MOMENTS), _MOST)
        trained, losses = (
            self._of(message, context)
            .svdd()
            .train(state, int(str(asked["number"])), int(str(asked["passes"])), moments)
        )
        kept = moments_of(trained)
        if local:
            context.state[_MOMENTS] = array_record(kept)
        if asked["treatment"] != "continue_global":
            trained = {name: value for name, value in trained.items() if name not in kept}
        return _reply(trained, losses=json.dumps(losses))

    def _share(self, message: Message, context: Context) -> RecordDict:
        work = self._of(message, context)
        site = work.site()
        if isinstance(site, PatchSVDDSite):
            site.take_encoder(_tensors(message))
        context.state[_SHARED] = array_record(site.share())
        return _reply({})

    def _shared(self, message: Message, context: Context) -> RecordDict:
        if _SHARED not in context.state:
            raise DataError("this site has been started anew since it was asked to share")
        return RecordDict({ARRAYS: context.state.pop(_SHARED), ANSWER: ConfigRecord({})})

    def _look(self, message: Message, context: Context) -> RecordDict:
        work = self._of(message, context)
        scores, category = work.scores(work.svdd().early(_tensors(message)))
        return _reply(
            TestedImages.of(scores, category, work.svdd().detector.transform, pixels=False).tensors()
        )

    def _model(self, message: Message, context: Context) -> RecordDict:
        work = self._of(message, context)
        site = work.site()
        calibration = site.calibration(_tensors(message))
        site.detector.take_calibration(calibration["numbers"].numpy(), calibration["scores"].numpy())
        scores, category = work.scores(site.detector)
        tested = TestedImages.of(scores, category, site.detector.transform, pixels=True).tensors()
        return _reply({**{f"calibration.{name}": value for name, value in calibration.items()}, **tested})

    def _of(self, message: Message, context: Context) -> SiteWork:
        """Return the work on the message's task, begun if it was not."""
        text, key = str(_asked(message)["task"]), (context.run_id, context.node_id)
        if key not in self._work or self._work[key][0] != text:
            config = context.node_config
            torch.set_num_threads(int(config.get("threads", torch.get_num_threads())))
            shard = ShardChoice.of_text(bytes.fromhex(str(config["shard"])).decode())
            work = SiteWork(Task.of_text(text), shard, str(config.get("device", "auto")))
            self._work[key] = text, work
        return self._work[key][1]


def _answering(handler: Callable[[Message, Context], RecordDict]) -> Callable[[Message, Context], Message]:
    """Return the handler for Flower; what is wrong is said in the answer, in one sentence."""

    def answer(message: Message, context: Context) -> Message:
        try:
            return Message(handler(message, context), reply_to=message)
        except AnomalyError as error:
            said = RecordDict({ANSWER: ConfigRecord({"error": one_line(str(error))})})
            return Message(said, reply_to=message)

    return answer


def _reply(tensors: Mapping[str, torch.Tensor], **said: str) -> RecordDict:
    return RecordDict({ARRAYS: array_record(tensors), ANSWER: ConfigRecord(dict(said))})


def _asked(message: Message) -> ConfigRecord:
    asked = message.content[ASKED]
    assert isinstance(asked, ConfigRecord)
    return asked


def _tensors(message: Message) -> dict[str, torch.Tensor]:
    return tensors_of(_arrays(message.content, ARRAYS), _MOST)


def _arrays(records: RecordDict, name: str) -> ArrayRecord:
    arrays = records[name]
    assert isinstance(arrays, ArrayRecord)
    return arrays


app = SiteApp().app()
"""What Flower loads."""
