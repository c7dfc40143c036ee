"""The console: a Django project with one app for each part of the business."""
