"""The console's addresses, below `/console/`."""

from django.urls import path

from adminconsole import data_views, placing_views, views

app_name = "console"
urlpatterns = [
    path("", views.overview, name="overview"),
    path("nodes/", views.nodes, name="nodes"),
    path("nodes/<str:node_id>/", views.node, name="node"),
    path("nodes/<str:node_id>/<str:action>/", views.act, name="act"),
    path("tablets/", views.tablets, name="tablets"),
    path("tablets/<int:tablet_id>/", views.tablet, name="tablet"),
    path("tablets/<int:tablet_id>/<str:wish>/", placing_views.place, name="place"),
    path("by-itself/", placing_views.by_itself, name="by_itself"),
    path("frontends/", views.front_ends, name="front_ends"),
    path("data/", data_views.rows, name="rows"),
    path("data/row/", data_views.row, name="row"),
    path("data/cell/", data_views.cell, name="cell"),
    path("data/cell/raw/", data_views.raw, name="raw"),
    path("activity/", views.activity, name="activity"),
    path("activity/latest/", views.latest_activity, name="latest_activity"),
]
