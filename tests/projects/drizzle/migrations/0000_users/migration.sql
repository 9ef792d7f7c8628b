CREATE TABLE `users` (
  `id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
  `name` text NOT NULL,
  `email` text NOT NULL
);
CREATE UNIQUE INDEX `users_email` ON `users` (`email`);
CREATE TABLE `posts` (
  `id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
  `author` integer NOT NULL REFERENCES `users`(`id`),
  `title` text NOT NULL
);
