"""A front end as a process: Django under gevent's WSGI server. Stateless; kill it and another one serves on.

`python -m penncloud_site.frontend` patches the standard library for gevent before anything else is imported, which is
why it is a module of its own: `manage.py frontend` turns into it (`exec`, same process id).

`application` is what the server calls: it answers `/healthz`, refuses what Django would misread, and hands the rest to
Django. `server` is the listening and the stopping.
"""
