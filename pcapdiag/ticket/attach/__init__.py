"""From a bundle to a ticket: Jira, GitHub, GitLab or a webhook, through their client libraries.

What is sent is what lies in the bundle; nothing here renders a report or reads a capture. One transport lies under all
client libraries (`transport`): where requests may go, how long they take and what an error says is decided once.
"""
