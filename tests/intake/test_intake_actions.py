"""What actions mean, in every spelling that shops use."""

from __future__ import annotations

import pytest

from honeyguide.intake.actions import impressions_among, meaning

SPELLINGS = {
    "against": [
        "remove_from_cart", "Remove-From-Cart", "removeFromCart", "REMOVE FROM CART", "removefromcart", "refund",
        "refunded", "return", "returned", "cancel", "order_cancelled", "unlike", "unfollow", "dislike", "block", "hide",
        "report", "skip", "skipped", "thumbs_down", "purchase-refund", "un-liked", "unsave", "not_interested",
    ],
    "shown": ["impression", "Impressions", "exposure", "exposed", "shown", "served", "item_impression", "displayed"],
    "weak": ["view", "viewed", "click", "item_click", "detail", "product-view", "pageview", "view_cart", "productview",
        "show_details"],
    "medium": ["cart", "add_to_cart", "AddToCart", "addtocart", "wishlist", "save", "like", "begin_checkout",
        "thumbs_up"],
    "strong": ["purchase", "purchased", "order", "play", "played", "transaction", "rating", "review", "buy"],
    "unknown": ["gekauft", "zap", "42", "購入"],
}  # fmt: skip


@pytest.mark.parametrize("wanted, action", [(wanted, a) for wanted, actions in SPELLINGS.items() for a in actions])
def test_meaning(wanted: str, action: str) -> None:
    assert meaning(action) == wanted


def test_impressions_keep_their_own_names() -> None:
    assert impressions_among(["Item Shown", "click", "exposure"]) == ["Item Shown", "exposure"]
