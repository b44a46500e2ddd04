"""One self-contained HTML page: no request to a network."""

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top; }
td { border-bottom: 1px solid #8884; }
th { border-bottom: 2px solid #8888; }
.notes { font-size: .85rem; opacity: .85; } code { overflow-wrap: anywhere; }
"""


def html_page(title: str, body: str, style: str) -> str:
    """The page; ``style`` is added to that of all pages. Title and body are HTML already."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    )
