"""The file drive: folders in folders, files of any size, a trash, all of it rows of the store.

Read in this order:

- `schema`    every key and cell format, and which rows form one group
- `names`     what a name may be, and what counts as the same name
- `node`      a file or folder as the store holds it
- `tree`      folders: list, create, rename, move; each change is one atomic batch over a fixed number of cells
- `trash`     delete, restore, delete for good, empty
- `outbox`    intents: work that crosses groups, recorded with the visible change
- `upload`    a file on its way in: invisible until it is whole
- `download`  a file on its way out: read ahead, ranges
- `collect`   carries the intents out: chunks and descendants of what was deleted or broke off
- `workers`   runs `collect` in every front end

None of these knows a request. The views are thin: they parse, ask these modules, and render.
"""
