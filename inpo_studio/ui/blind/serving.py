"""What the blind vote's page may call; each takes the user from the request, never from the page.

An answer holds `retry` where sending the same again may help, `refused` where it will not; each
is one sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.studio.compare.trials import (
    cast_vote,
    draw_missing,
    extend_trial,
    serve_items,
    start_trial,
    undo,
    undoable,
)
from inpo_studio.studio.compare.verdicts import result
from inpo_studio.studio.errors import StudioError
from inpo_studio.ui.answering import Answer, answer, studio_name
from inpo_studio.ui.blind import describing, messages
from inpo_studio.ui.blind.tickets import TICKETS, Tickets, read_ticket
from inpo_studio.ui.doors import user_of
from inpo_studio.ui.pair_picker.messages import AnyMessage
from storage.schema import TrialItem
from storage.trials import trial_items
from storage.votes import find_vote

Message = TypeVar("Message", bound=AnyMessage)
_NOT_OURS = "These two pictures are not part of this vote any more; here are others."


def server_functions(studio: Studio, tickets: Tickets = TICKETS) -> list[Callable[..., Answer]]:
    """Return what the page may call."""
    served = Served(studio, tickets)

    def look_around(data: Any, request: gr.Request) -> Answer:
        return served.answer(messages.Looked, data, request, served.look_around)

    def start_vote(data: Any, request: gr.Request) -> Answer:
        return served.answer(messages.Started, data, request, served.start)

    def next_items(data: Any, request: gr.Request) -> Answer:
        return served.answer(messages.Wanted, data, request, served.next_items)

    def cast(data: Any, request: gr.Request) -> Answer:
        return served.answer(messages.Cast, data, request, served.cast)

    def take_back(data: Any, request: gr.Request) -> Answer:
        return served.answer(messages.Regretted, data, request, served.take_back)

    def past_votes(data: Any, request: gr.Request) -> Answer:
        return served.answer(messages.OnTrial, data, request, served.past_votes)

    def show_result(data: Any, request: gr.Request) -> Answer:
        return served.answer(messages.OnTrial, data, request, served.show_result)

    def add_votes(data: Any, request: gr.Request) -> Answer:
        return served.answer(messages.Extended, data, request, served.add_votes)

    def draw_again(data: Any, request: gr.Request) -> Answer:
        return served.answer(messages.OnTrial, data, request, served.draw_again)

    return [
        look_around,
        start_vote,
        next_items,
        cast,
        take_back,
        past_votes,
        show_result,
        add_votes,
        draw_again,
    ]


class Served:
    """Does what a message asks for, on behalf of a user."""

    def __init__(self, studio: Studio, tickets: Tickets) -> None:
        """Nothing is read yet."""
        self._studio = studio
        self._tickets = tickets
        self._name = studio_name(studio)

    def answer(
        self,
        kind: type[Message],
        data: Any,
        request: gr.Request,
        work: Callable[[str, Message], Answer],
    ) -> Answer:
        """Check a message and do its work; what goes wrong becomes one sentence."""
        user = user_of(request.scope)
        return answer(self._name, kind, data, lambda message: work(user, message))

    def look_around(self, user: str, message: messages.Looked) -> Answer:
        """Say what can be compared and how the trials so far stand."""
        return {"studio": self._name, **describing.overview(self._studio)}

    def start(self, user: str, message: messages.Started) -> Answer:
        """Begin a trial."""
        studio = self._studio
        against = message.against
        base_id = None if against is None else describing.find_round(studio, against).id
        trial = start_trial(
            studio,
            describing.find_round(studio, message.round).id,
            base_id,
            planned=message.planned,
            prompt_ids=describing.own_prompts(studio) if message.prompts == "own" else None,
        )
        return {"trial": trial.position}

    def next_items(self, user: str, message: messages.Wanted) -> Answer:
        """Give the page more items, and say which of its own are no longer to be voted on."""
        trial = describing.find_trial(self._studio, message.trial)
        known = self._items(trial.id)
        held = {
            found.position: name
            for name in message.holding
            if (found := read_ticket(user, known, name)) is not None
        }
        items, still = serve_items(self._studio, trial.id, holding=list(held), want=message.want)
        kept = {name for position, name in held.items() if position in still}
        return {
            "items": [self._shown(user, item) for item in items],
            "lost": [name for name in message.holding if name not in kept],
            "progress": describing.describe_progress(self._studio, trial.id),
        }

    def cast(self, user: str, message: messages.Cast) -> Answer:
        """Record a vote; what was recorded already is only confirmed."""
        with self._studio.database.read() as session:
            known = find_vote(session, message.key)
        if known is not None and known.annotator == user:
            return {"saved": message.key}
        trial = describing.find_trial(self._studio, message.trial)
        ticket = read_ticket(user, self._items(trial.id), message.ticket)
        side = None if ticket is None else ticket.aligned_side(message.left)
        if ticket is None or side is None:
            return {"refused": _NOT_OURS}
        cast_vote(
            self._studio,
            key=message.key,
            trial_id=trial.id,
            item_position=ticket.position,
            choice=message.choice,
            aligned_side=side,
            annotator=user,
            milliseconds=message.milliseconds,
        )
        return {"saved": message.key}

    def take_back(self, user: str, message: messages.Regretted) -> Answer:
        """Undo a vote, and serve its item anew where the page does not hold it any more."""
        vote = undo(self._studio, user, message.key)
        if vote is None or not message.again:
            return {"found": vote is not None}
        items = self._items(vote.trial_id)
        item = next(item for item in items if item.position == vote.item_position)
        return {"found": True, "item": self._shown(user, item)}

    def past_votes(self, user: str, message: messages.OnTrial) -> Answer:
        """Return the keys of what can still be undone, latest last."""
        trial = describing.find_trial(self._studio, message.trial)
        return {"keys": undoable(self._studio, trial.id, user)}

    def show_result(self, user: str, message: messages.OnTrial) -> Answer:
        """Look: say what the votes say, with the named pictures once all votes are in."""
        trial = describing.find_trial(self._studio, message.trial)
        found = result(self._studio, trial.id)
        pictures = describing.describe_pictures(self._studio, trial.id) if found.complete else []
        return {"result": describing.describe_result(found), "pictures": pictures}

    def add_votes(self, user: str, message: messages.Extended) -> Answer:
        """Add votes to a complete trial."""
        trial = describing.find_trial(self._studio, message.trial)
        extend_trial(self._studio, trial.id, message.more)
        return {"trial": message.trial}

    def draw_again(self, user: str, message: messages.OnTrial) -> Answer:
        """Have the missing pictures drawn after their job has failed."""
        trial = describing.find_trial(self._studio, message.trial)
        draw_missing(self._studio, trial.id, again=True)
        return {"trial": message.trial}

    def _items(self, trial_id: str) -> list[TrialItem]:
        with self._studio.database.read() as session:
            return trial_items(session, trial_id)

    def _shown(self, user: str, item: TrialItem) -> Answer:
        """An item under fresh names; its pictures wait in memory for the page to fetch them."""
        drawn = item.comparison
        if drawn is None:
            raise StudioError("These two pictures are not drawn yet; wait a moment.")
        files = self._studio.files
        ticket = self._tickets.issue(
            user,
            item,
            base=files.image_path(drawn.base_image.sha256),
            aligned=files.image_path(drawn.aligned_image.sha256),
        )
        return {
            "ticket": ticket.name,
            "prompt": item.prompt.text,
            "left": ticket.left,
            "right": ticket.right,
        }
