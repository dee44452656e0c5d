"""The text of the explorer, in English and Japanese side by side."""

from __future__ import annotations

from ..report import LANGUAGES

__all__ = ["TEXTS", "words_of"]

#: key: (English, Japanese). Fields in braces are filled in by the page's script.
TEXTS: dict[str, tuple[str, str]] = {
    "title": ("{name} · Kyori explorer", "{name} ・ Kyori エクスプローラ"),
    "kicker": ("Kyori 距離 · explorer", "Kyori 距離 ・ エクスプローラ"),
    "count": ("{items} items", "{items} 件"),
    "count.classes": ("{items} items, {classes} classes", "{items} 件、{classes} クラス"),
    # The map
    "map.label": (
        "Map of the items. Arrow keys move it, + and − zoom, 0 shows all; L draws around items; / searches.",
        "データの地図。矢印キーで移動、+ と − で拡大・縮小、0 で全体表示、L で囲んで選択、/ で検索します。",
    ),
    "map.pca": (
        "Placed by the two principal components; distances on the map show only a part of those between the vectors.",
        "2 つの主成分で並べています。地図上の距離はベクトル間の距離の一部しか表しません。",
    ),
    "map.tsne": (
        "Placed by t-SNE: neighbours stay together; sizes of islands and distances between them mean nothing.",
        "t-SNE で並べています。近いものどうしがまとまります。島の大きさや島どうしの距離に意味はありません。",
    ),
    "map.umap": (
        "Placed by UMAP: neighbours stay together; sizes of islands and distances between them mean little.",
        "UMAP で並べています。近いものどうしがまとまります。島の大きさや島どうしの距離にほとんど意味はありません。",
    ),
    "map.all": ("Every item is drawn.", "すべてのデータを描いています。"),
    "map.large": (
        "More than {limit} items are placed by PCA unless you ask: --projection tsne takes minutes, but shows more.",
        "{limit} 件を超えるため PCA で並べています。--projection tsne なら数分かかりますが、まとまりがよく見えます。",
    ),
    "map.working": (
        "The {method} map is being made; it takes the place of this one when it is ready.",
        "{method} の地図を作成しています。できしだい置き換わります。",
    ),
    "map.failed": (
        "The {method} map could not be made; the terminal says why.",
        "{method} の地図を作れませんでした。理由は端末に表示されています。",
    ),
    "map.no_webgl": (
        "This browser cannot draw the map (no WebGL). Search and neighbours work all the same.",
        "このブラウザでは WebGL が使えないため地図を描けません。検索と近傍の表示は使えます。",
    ),
    "map.loading": ("Loading {items} items …", "{items} 件を読み込んでいます…"),
    "map.move": ("Move", "移動"),
    "map.lasso": ("Draw around items", "囲んで選択"),
    "map.reset": ("Show all", "全体表示"),
    "map.hint": (
        "Drag to move, wheel to zoom, Shift + drag to draw around items, click an item for its neighbours.",
        "ドラッグで移動、ホイールで拡大・縮小、Shift + ドラッグで囲んで選択、クリックで近傍を表示します。",
    ),
    # The bar
    "search": ("Find an id, label or text", "ID・ラベル・テキストを検索"),
    "search.ids": ("Find an id or label", "ID・ラベルを検索"),
    "search.button": ("Find", "検索"),
    "colour": ("Colour", "色"),
    "colour.none": ("none", "なし"),
    "colour.label": ("label", "ラベル"),
    # The legend
    "legend": ("Classes", "クラス"),
    "legend.filter": ("Find a class", "クラスを検索"),
    "legend.all": ("Show all", "すべて表示"),
    "legend.none": ("Hide all", "すべて隠す"),
    "legend.more": (
        "… and {count} more classes: type a part of a name above",
        "ほかに {count} クラスあります。上の欄に名前の一部を入力してください",
    ),
    "legend.repeat": (
        "{count} classes share 20 colours: point at an item to read its class.",
        "{count} クラスに 20 色を繰り返し使っています。クラスは点に重ねると表示されます。",
    ),
    "legend.range": (
        "Colours run from the 1st to the 99th percentile.",
        "色は 1〜99 パーセンタイルの範囲を表します。",
    ),
    "legend.missing": ("{count} items have no number (grey).", "{count} 件は値がありません（灰色）。"),
    "legend.toggle": ("Show {name}", "{name} を表示"),
    "legend.select": ("Select the items of {name}", "{name} のデータを選択"),
    # An item
    "item.start": (
        "Click an item on the map, or search for one, to see what is nearest to it.",
        "地図上の点をクリックするか検索すると、そのデータに最も近いものが表示されます。",
    ),
    "item.neighbors": ("Nearest in the embedding", "埋め込みで最も近いもの"),
    "item.same": (
        "{same} of {count} have its label ({metric} distance)",
        "{count} 件中 {same} 件が同じラベルです（{metric}）",
    ),
    "item.metric": ("{metric} distance", "{metric}"),
    "item.alone": ("There is no other item.", "ほかのデータはありません。"),
    "item.more": ("More neighbours", "さらに表示"),
    "metric.euclidean": ("Euclidean", "ユークリッド距離"),
    "metric.cosine": ("cosine", "コサイン距離"),
    "verdict.same": ("same label", "同じラベル"),
    "verdict.different": ("different label", "違うラベル"),
    # A selection
    "selection.lasso": ("{count} items selected", "{count} 件を選択"),
    "selection.found": ("{count} items found for “{text}”", "「{text}」が {count} 件見つかりました"),
    "selection.cut": (
        "the first {shown} of {count} items found for “{text}”",
        "「{text}」が見つかった {count} 件のうち最初の {shown} 件",
    ),
    "selection.nothing": ("Nothing found for “{text}”.", "「{text}」は見つかりませんでした。"),
    "selection.class": ("{name}: {count} items", "{name}：{count} 件"),
    "selection.save": ("Save as CSV", "CSV で保存"),
    "selection.clear": ("Clear", "選択を解除"),
    "selection.more": ("Show more", "さらに表示"),
    "gone": (
        "The explorer does not answer. Was it stopped in the terminal?",
        "エクスプローラから応答がありません。端末で停止していませんか。",
    ),
}


def words_of(lang: str) -> dict[str, str]:
    """Return the texts in one language, by key."""
    place = LANGUAGES.index(lang)
    return {key: texts[place] for key, texts in TEXTS.items()}
