"""One report, said in each form: terminal, HTML, Markdown, Jira, Slack, JSON."""
