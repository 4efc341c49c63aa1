"""Sentences that are said otherwise on a page, where nobody types options: by language and key."""

from collections.abc import Mapping

PAGE: Mapping[str, Mapping[str, str]] = {
    "en": {
        "headline.card": "on the card (as nvidia-smi shows it); a GPU says whether it fits",
        "reason.no_device": "no GPU was chosen",
        "gpus.footer": "blank: not known, or without a source",
        "load.formats": "In other formats (the full tables have {left} more):",
        "load.instead": "Load it in one of these instead (the full tables have {left} more):",
        "host.unjudged": "{needed} needed, and not judged: host memory says what there is",
        "changes.none": "No change was found that makes it fit. Fit finds the smallest card that"
        " does: All settings, Solve for the smallest.",
        "footer.more": "",
        "rank.more": "{count} more",
    },
    "zh": {
        "headline.card": "显存占用(nvidia-smi 口径);选一张显卡,判断放不放得下",
        "reason.no_device": "没有选择显卡",
        "gpus.footer": "空白:未知或没有出处",
        "load.formats": "其他格式(完整表格另有 {left} 种):",
        "load.instead": "可以换成以下格式(完整表格另有 {left} 种):",
        "host.unjudged": "需要 {needed},未作判断:在「内存」里填写机器有多少",
        "changes.none": "没有找到放得下的改动。「放得下吗」页可以找出够用的最小显卡:全部设置,"
        "求最小的硬件。",
        "footer.more": "",
        "rank.more": "还有 {count} 个",
    },
}
