from __future__ import annotations

from django.urls import path

from console.accounts.views import administration, metrics, pages

app_name = "accounts"
urlpatterns = [
    path("sign-in/", pages.SignIn.as_view(), name="sign-in"),
    path("sign-out/", pages.SignOut.as_view(), name="sign-out"),
    path("tenant/", pages.switch_tenant, name="switch-tenant"),
    path("language/", pages.switch_language, name="switch-language"),
    path("theme/", pages.switch_theme, name="switch-theme"),
    path("settings/", pages.profile, name="settings"),
    path("members/", pages.members, name="members"),
    path("audit/", pages.audit, name="audit"),
    path("tokens/", metrics.tokens, name="tokens"),
    path("tokens/<int:id>/revoke/", metrics.revoke, name="revoke-token"),
    path("admin/tenants/", administration.tenants, name="tenants"),
    path("admin/tenants/<str:id>/quota/", administration.quota, name="quota"),
    path("admin/users/", administration.users, name="users"),
    path("admin/users/<int:id>/<str:verb>/", administration.user_deed, name="user-deed"),
]
