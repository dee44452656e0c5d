"""The text of the pictures of a report, in English and Japanese; see :mod:`kyori.report.words`."""

from __future__ import annotations

__all__ = ["PICTURES"]

#: key: (English, Japanese), a part of the texts of :class:`~kyori.report.words.Words`.
PICTURES: dict[str, tuple[str, str]] = {
    "figure.data": ("data", "データ"),
    # Axes, where a figure is a file of its own
    "axis.epoch": ("epoch", "エポック"),
    "axis.loss": ("training loss", "学習時の損失"),
    "axis.active": ("share of active terms", "有効な項の割合"),
    "axis.distance": ("distance", "距離"),
    "axis.angle": ("angle to the class vector (radians)", "クラスベクトルとの角度（ラジアン）"),
    "axis.share": ("share of the pairs", "ペアの割合"),
    "axis.force": ("pulls (below 0) or pushes", "引力（0 より下）または斥力"),
    "axis.norm": ("length of the feature", "特徴の長さ"),
    "axis.items": ("items", "件数"),
    # Active share
    "curves.active": (
        "Share of the terms (pairs, triplets) that still pull or push, by epoch. Near 0 there is little left to learn "
        "from; harder mining or a wider margin brings more.",
        "まだ引いたり押したりしている項（ペアや三つ組）の割合のエポックごとの推移です。0 に近づくと学ぶものがほとんど"
        "残っていません。より難しい例を選ぶか、マージンを広げると増えます。",
    ),
    "curves.active.one": ("Share of active terms, by epoch", "有効な項の割合（エポックごと）"),
    "curves.active.alt": (
        "{method}: share of active terms by epoch, {last} % at the end",
        "{method}：有効な項の割合の推移。最終値は {last} %",
    ),
    # Map
    "map.sheet": ("Thumbnails of the items on the maps", "平面図にあるデータの縮小画像"),
    "map.left_out": (
        "Not drawn, because they were measured on other items: {methods}.",
        "別のデータで測ったため描いていない手法：{methods}。",
    ),
    "map.note.umap": (
        "UMAP pictures of the test items, seed {seed}. Islands of one colour are classes that can be told apart; "
        "sizes of islands and distances between them mean little.",
        "テストデータを UMAP で平面に並べたものです（シード {seed}）。同じ色がひとまとまりになっていれば、"
        "そのクラスは見分けられています。島の大きさや島どうしの距離にはほとんど意味がありません。",
    ),
    # Verification
    "roc.title": ("ROC: true pairs accepted", "ROC 曲線：正しいペアの受け入れ"),
    "det.title": ("DET: both errors against each other", "DET 曲線：2 種類の誤りの関係"),
    "det.note": (
        "Both axes are stretched so that normally distributed distances give straight lines. Lower and further left is "
        "better; on the grey diagonal both errors are equally frequent.",
        "距離が正規分布に従うとき直線になるように、両軸を変換しています。左下にあるほど良く、灰色の対角線上では"
        " 2 種類の誤りが等しくなります。",
    ),
    "det.y": ("pairs of one class refused (FRR)", "同じクラスのペアを退けた割合（FRR）"),
    "det.x": ("pairs of different classes accepted (FAR)", "違うクラスのペアを受け入れた割合（FAR）"),
    "det.alt": ("DET curves of all methods", "全手法の DET 曲線"),
    "histogram.said": (
        "threshold {threshold}: FAR {far} %, TAR {tar} %",
        "しきい値 {threshold}：FAR {far} %、TAR {tar} %",
    ),
    "histogram.slider": ("Move the threshold", "しきい値を動かす"),
    # Confusion
    "confusion.heading": ("Which classes {method} mixes up", "{method} が取り違えるクラス"),
    "confusion.note": (
        "{wrong} of {n} test items have a nearest neighbour of another class, seed {seed}.",
        "テストデータ {n} 件のうち {wrong} 件で、最も近いデータが別のクラスでした（シード {seed}）。",
    ),
    "confusion.rows": (
        "Rows: class of the item. Columns: class of its nearest neighbour. Percent of the row.",
        "行はデータのクラス、列は最も近いデータのクラス、数字は行に対する割合（%）です。",
    ),
    "confusion.alt": ("Classes of nearest neighbours", "最も近いデータのクラス"),
    "confusion.item": ("class of the item", "データのクラス"),
    "confusion.neighbor": ("class of the nearest neighbour", "最も近いデータのクラス"),
    "confusion.pairs": (
        "Most confused classes: {shown} of {total} pairs",
        "特に取り違えやすいクラス（{total} 組中 {shown} 組）",
    ),
    "confusion.first": ("Class", "クラス"),
    "confusion.second": ("Mixed up with", "取り違える相手"),
    "confusion.forth": ("First taken for second", "前者を後者と"),
    "confusion.back": ("Second taken for first", "後者を前者と"),
    "confusion.share": ("% of both", "両者に占める割合（%）"),
    # Springs
    "springs.heading": ("The losses as springs", "バネとして見た損失"),
    "springs.note": (
        "The force that each loss exerts at each distance: below the line it pulls two items together, above it pushes "
        "them apart, on the line the spring is slack. The hills behind are the distances of the test items: where they "
        "lie, the forces still work or have come to rest.",
        "各損失が距離ごとに及ぼす力です。線より下では 2 件を引き寄せ、上では引き離し、線上ではバネが緩んでいます。"
        "背後の山はテストデータの距離の分布で、そこで力がまだ働いているか、すでに静まっているかが分かります。",
    ),
    "springs.pull": ("same class", "同じクラス"),
    "springs.push": ("different classes", "違うクラス"),
    "springs.caption.distance": ("force against distance", "距離に対する力"),
    "springs.caption.angle": (
        "force against the angle to a class vector, 0 to π; the hills: angles to class means",
        "クラスベクトルとの角度（0〜π）に対する力。山はクラス平均との角度",
    ),
    "springs.alt.distance": (
        "{method}: force on pairs of one class and of different classes against their distance",
        "{method}：同じクラスと違うクラスのペアに働く力（横軸は距離）",
    ),
    "springs.alt.angle": (
        "{method}: force towards the own and from another class vector against the angle",
        "{method}：自分のクラスと別のクラスのベクトルから受ける力（横軸は角度）",
    ),
    # Settling
    "settling.note": (
        "A toy: three classes of six points in a plane, moved by the forces of each loss until they balance. Diamonds "
        "are class vectors; on a circle only directions count.",
        "3 クラス 6 点ずつの平面上の点を、各損失の力で釣り合うまで動かした模型です。ひし形はクラスベクトルで、"
        "円が描かれているものは向きだけが意味を持ちます。",
    ),
    "settling.caption": (
        "loss {first} at the start, {last} at rest",
        "損失：はじめ {first}、釣り合い {last}",
    ),
    "settling.alt": (
        "{name}: the ways of {n} points of a plane to their balance",
        "{name}：平面上の {n} 点が釣り合うまでの動き",
    ),
    "settling.play": ("Play", "再生"),
    "settling.pause": ("Pause", "一時停止"),
    "settling.time": ("Moment", "時刻"),
    # Norms
    "norms.heading": ("Feature norms", "特徴の長さ"),
    "norms.note": (
        "Lengths of the features before they are scaled to length 1, seed {seed}. Softmax gives short features to hard "
        "items, so that pairs of short ones verify badly (Ranjan et al. 2017).",
        "長さ 1 にそろえる前の特徴の長さです（シード {seed}）。softmax は難しいデータに短い特徴を与えるため、"
        "短いものどうしのペアは判定しにくくなります（Ranjan ほか 2017）。",
    ),
    "norms.note.both": (
        "{free} learns without, {constrained} with a constraint on the length: compare the two.",
        "{free} は長さの制約なし、{constrained} は制約ありの学習です。2 つを見比べてください。",
    ),
    "norms.short": ("short", "短い"),
    "norms.middle": ("middle", "中間"),
    "norms.long": ("long", "長い"),
    "norms.caption": ("from {low} to {high}, median {median}", "{low}〜{high}、中央値 {median}"),
    "norms.alt": (
        "{method}: lengths of the features from {low} to {high}, median {median}",
        "{method}：特徴の長さ。{low} から {high}、中央値 {median}",
    ),
    "norms.roc": (
        "ROC curves of the pairs among the shortest, the middle and the longest third of the items.",
        "特徴の長さで 3 等分したデータ（短い・中間・長い）それぞれの中でのペアの ROC 曲線です。",
    ),
    "norms.roc.alt": (
        "{method}: ROC curves by length of the features; equal error rates: {errors}",
        "{method}：特徴の長さごとの ROC 曲線。等誤り率：{errors}",
    ),
    "norms.eer": ("equal error rate (%): {errors}", "等誤り率（%）：{errors}"),
    "norms.sampled": (
        "Of each third at most {most} items are compared, sampled at random.",
        "それぞれ最大 {most} 件を無作為に選んで比べています。",
    ),
    "norms.items.shortest": ("Shortest features of {method}", "{method} で特徴が最も短いデータ"),
    "norms.items.longest": ("Longest features of {method}", "{method} で特徴が最も長いデータ"),
}
