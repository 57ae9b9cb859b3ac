"""SendGrid's own request, ``POST /v3/mail/send``, as emails of ours."""
